"""The verbs of serving: the gateway and its keys."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer


class Engine(str, Enum):
    """Who runs the model."""

    embedded = "embedded"
    triton = "triton"


def serve(
    repository: Annotated[
        Path | None, typer.Option(help="Triton model repository. [default: model_repository]")
    ] = None,
    engine: Annotated[Engine | None, typer.Option(help="Who runs the model. [default: embedded]")] = None,
    triton_url: Annotated[
        str | None,
        typer.Option(help="gRPC host:port of running Tritons, a:8001,b:8001; without it one is started here."),
    ] = None,
    default_model: Annotated[
        str | None, typer.Option(help="The model for requests that name none. [default: the only one]")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one. [default: 8000]")] = None,
    keys: Annotated[Path | None, typer.Option(help="File of API keys, by `labelwise keys`: requests need one.")] = None,
    insecure_no_keys: Annotated[
        bool | None, typer.Option("--insecure-no-keys", help="Serve whoever asks, also beyond this machine.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes that serve, sharing the cores' threads. [default: 1]")
    ] = None,
) -> None:
    """Serve a model repository over HTTP, with a page to try it. More settings: LABELWISE_* in the environment."""
    from serving.gateway.launch import serve as launch
    from serving.settings import load_settings

    models = {"repository": repository, "engine": engine, "triton_url": triton_url, "default_model": default_model}
    exposure = {"host": host, "port": port, "keys": keys, "insecure_no_keys": insecure_no_keys}
    launch(load_settings(workers=workers, **models, **exposure))


keys_app = typer.Typer(help="API keys of the gateway: a file of names and hashes.", no_args_is_help=True)
KeyFile = Annotated[Path, typer.Option("--keys", envvar="LABELWISE_KEYS", help="The key file.")]
_KEY_FILE = Path("labelwise.keys")


@keys_app.command("add")
def add_key(
    name: Annotated[str, typer.Argument(help="Whose key it is, or what for: it stands in the log.")],
    keys: KeyFile = _KEY_FILE,
) -> None:
    """Make a key and print it: this once, for only its hash is kept."""
    from serving.gateway.access import keys as key_file

    typer.echo(key_file.add_key(keys, name))
    typer.echo(f"Keep it: it is not shown again. `labelwise serve --keys {keys}` takes it now.", err=True)


@keys_app.command("list")
def list_keys(keys: KeyFile = _KEY_FILE) -> None:
    """The names of the keys, and when they were made."""
    from serving.gateway.access import keys as key_file

    for key in key_file.read_keys(keys):
        typer.echo(f"{key.name}  {key.made}".rstrip())


@keys_app.command("revoke")
def revoke_key(
    name: Annotated[str, typer.Argument(help="The key's name.")],
    keys: KeyFile = _KEY_FILE,
) -> None:
    """Take a key back; running gateways refuse it within a second."""
    from serving.gateway.access import keys as key_file

    key_file.revoke_key(keys, name)
    typer.echo(f"Revoked {name}.")


def add_verbs(app: typer.Typer) -> None:
    app.command()(serve)
    app.add_typer(keys_app, name="keys")
