"""`condetr ui`: a page on this machine to drop images on, with what trained models find and where they look."""

import ipaddress
import socket
from pathlib import Path
from typing import Annotated

import typer

from condetr.cli.options import Device

MOST = 5
"""How many runs are shown if none is named."""


def ui(
    weights: Annotated[
        list[str] | None,
        typer.Argument(metavar="[WEIGHTS...]", help="Run folders, model folders or other weights; default: runs/*."),
    ] = None,
    *,
    host: Annotated[str, typer.Option(help="Address to answer on. Others than this machine's own open it to all.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to answer on; 0 takes a free one.")] = 8000,
    device: Device = None,
) -> None:
    """Open a page on which to drop an image: boxes of every model, a threshold slider, and where each head looks.

    It shows the curves of run folders as they grow, of those that are still in training, too. It answers to this
    machine alone unless --host says otherwise. Images are kept in memory, the last 8 of at most 20 MiB each; nothing is
    written outside a temporary folder. Ctrl-C ends it.
    """
    from tempfile import TemporaryDirectory

    from condetr.errors import InputError
    from condetr.interop.loading import load
    from condetr.runs.folder import RunFolder

    try:
        import uvicorn

        from condetr.ui.server import make_server
    except ModuleNotFoundError as error:
        raise InputError(f"the user interface needs {error.name}: pip install 'condetr[ui]'") from None

    named = weights or _newest_runs()
    runs = {name: Path(name) for name in named if RunFolder(Path(name)).metrics.is_file()}
    models = {
        name: load(name, device=device) for name in named if name not in runs or RunFolder(runs[name]).best.is_dir()
    }
    with _listening(host, port) as place, TemporaryDirectory(prefix="condetr-ui-") as folder:
        is_local = _is_local(host)
        if not is_local:
            typer.echo(f"everyone who reaches {host} can use this page; without --host only this machine can", err=True)
        hosts = ["127.0.0.1", "localhost", host] if is_local else ["*"]
        server = make_server(models, folder=Path(folder), hosts=hosts, runs=runs)
        typer.echo(f"open http://{host}:{place.getsockname()[1]} and drop an image there; Ctrl-C ends it")
        settings = uvicorn.Config(server, log_level="warning", server_header=False)
        uvicorn.Server(settings).run(sockets=[place])


def _newest_runs() -> list[str]:
    from condetr.errors import InputError

    runs = [metrics.parent for metrics in Path("runs").glob("*/metrics.csv")]
    if not runs:
        raise InputError("there are no runs in runs/: name a run folder or other weights")
    newest = sorted(runs, key=lambda run: (run / "metrics.csv").stat().st_mtime, reverse=True)
    return [str(run) for run in newest[:MOST]]


def _is_local(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listening(host: str, port: int) -> socket.socket:
    from condetr.errors import InputError

    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        why = error.strerror or str(error)
        raise InputError(f"cannot answer on {host}, port {port} ({why}): choose another --port or --host") from None
