"""The verb that connects Label Studio with a gateway: label-studio."""

from typing import Annotated

import typer


def label_studio(
    server: Annotated[str, typer.Option(help="The gateway, as http://HOST:8000.")] = "http://127.0.0.1:8000",
    model: Annotated[str | None, typer.Option(help="The model. [default: the gateway's default]")] = None,
    key: Annotated[str | None, typer.Option(envvar="LABELWISE_KEY", help="The gateway's key, if it wants one.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 picks a free one.")] = 9090,
    label_studio_url: Annotated[
        str | None, typer.Option(envvar="LABEL_STUDIO_URL", help="Label Studio, as http://localhost:8080.")
    ] = None,
    label_studio_key: Annotated[
        str | None, typer.Option(envvar="LABEL_STUDIO_API_KEY", help="Its access token, personal or legacy.")
    ] = None,
    photos_from: Annotated[
        list[str] | None, typer.Option(help="Another host that photos may be fetched from; repeatable.")
    ] = None,
    password: Annotated[
        str | None,
        typer.Option(envvar="BASIC_AUTH_PASS", help="What Label Studio must send, by basic authentication."),
    ] = None,
) -> None:
    """Run an ML backend for Label Studio: predictions from a gateway, and lessons for it from the annotations."""
    from serving.processes import importing

    with importing():
        from serving.label_studio.launch import BridgeOptions, serve

    serve(
        BridgeOptions(
            server=server,
            model=model,
            key=key,
            host=host,
            port=port,
            studio_url=label_studio_url,
            studio_key=label_studio_key,
            photos_from=tuple(photos_from or ()),
            password=password,
        )
    )
