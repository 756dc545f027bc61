"""The verbs of the gateway: serve, and keys for its API keys."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from labelwise.devices.names import DeviceChoice


def serve(
    repository: Annotated[
        Path | None, typer.Option(help="Triton model repository. [default: model_repository]")
    ] = None,
    engine: Annotated[
        Literal["embedded", "triton"] | None, typer.Option(help="What runs the model. [default: embedded]")
    ] = None,
    triton_url: Annotated[
        str | None,
        typer.Option(help="gRPC host:port of running Tritons: a:8001,b:8001. Without it, a local Triton is started."),
    ] = None,
    default_model: Annotated[
        str | None, typer.Option(help="Model for requests that name none. [default: the only one, or everyday]")
    ] = None,
    device: Annotated[
        DeviceChoice | None,
        typer.Option(help="What the embedded engine runs on; auto is cuda if it works. [default: auto]"),
    ] = None,
    decode: Annotated[
        Literal["cpu", "gpu"] | None, typer.Option(help="Where ordinary JPEGs are decoded. [default: cpu]")
    ] = None,
    precision: Annotated[
        Literal["auto", "fp32", "fp16", "int8"] | None,
        typer.Option(help="Number format of the models; auto takes the fastest that tags as well. [default: auto]"),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 picks a free one. [default: 8000]")] = None,
    keys: Annotated[
        Path | None,
        typer.Option(help="File of API keys, made by `labelwise keys`. With it, every request needs a key."),
    ] = None,
    insecure_no_keys: Annotated[
        bool | None, typer.Option("--insecure-no-keys", help="Let anyone use the gateway, from other machines too.")
    ] = None,
    teach: Annotated[
        bool | None, typer.Option("--teach", help="Let clients teach labels; with --keys, those made with --may teach.")
    ] = None,
    feedback: Annotated[
        Path | None, typer.Option(help="File (.db) for clients' corrections. Without it, none is kept.")
    ] = None,
    feedback_photos: Annotated[
        bool | None, typer.Option("--feedback-photos", help="Keep the photos of the corrections, too.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes that serve; they share the threads. [default: 1]")
    ] = None,
) -> None:
    """Serve a model repository over HTTP, with a web page to try it. Environment variables LABELWISE_* set more."""
    from serving.processes import importing

    with importing():
        from serving.gateway.launch import serve as launch
        from serving.settings import load_settings

    models = {"repository": repository, "engine": engine, "triton_url": triton_url, "default_model": default_model}
    models |= {"device": device, "decode": decode, "precision": precision}
    exposure = {"host": host, "port": port, "keys": keys, "insecure_no_keys": insecure_no_keys}
    learning = {"teach": teach, "feedback": feedback, "feedback_photos": feedback_photos}
    launch(load_settings(workers=workers, **models, **exposure, **learning))


keys_app = typer.Typer(help="Manage the gateway's API keys, kept as a file of names and hashes.", no_args_is_help=True)
KeyFile = Annotated[Path, typer.Option("--keys", envvar="LABELWISE_KEYS", help="The key file.")]
_KEY_FILE = Path("labelwise.keys")


@keys_app.command("add")
def add_key(
    name: Annotated[str, typer.Argument(help="Who or what the key is for; the log names it.")],
    may: Annotated[
        list[str] | None, typer.Option(help="What it may do besides tagging: teach or feedback; repeatable.")
    ] = None,
    keys: KeyFile = _KEY_FILE,
) -> None:
    """Make a key and print it. It is shown only now: the file keeps its hash."""
    from serving.gateway.access import keys as key_file

    typer.echo(key_file.add_key(keys, name, may or ()))
    typer.echo(f"Keep it: it is not shown again. `labelwise serve --keys {keys}` accepts it now.", err=True)


@keys_app.command("list")
def list_keys(keys: KeyFile = _KEY_FILE) -> None:
    """List the keys' names, dates, and what each may do besides tagging."""
    from serving.gateway.access import keys as key_file

    for key in key_file.read_keys(keys):
        may = f"may {', '.join(key.may)}" if key.may else ""
        typer.echo("  ".join(filter(None, (key.name, key.made, may))))


@keys_app.command("revoke")
def revoke_key(
    name: Annotated[str, typer.Argument(help="The key's name.")],
    keys: KeyFile = _KEY_FILE,
) -> None:
    """Revoke a key. Running gateways refuse it within a second."""
    from serving.gateway.access import keys as key_file

    key_file.revoke_key(keys, name)
    typer.echo(f"Revoked {name}.")
