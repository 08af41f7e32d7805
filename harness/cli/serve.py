"""The command that serves the report."""

from __future__ import annotations

import sys
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from harness import git
from harness.cli.options import TagOption, latest
from harness.ledger import Ledger

PORT = 8377
PortOption = Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes any that is free.")]
AddressOption = Annotated[
    str,
    typer.Option("--address", metavar="IP", help="Where to listen; another than this machine's own is plain HTTP on a network."),
]
OpenOption = Annotated[bool, typer.Option("--open", help="Show it in your browser.")]


def serve(tag: TagOption = None, port: PortOption = PORT, address: AddressOption = "127.0.0.1", show: OpenOption = False) -> None:
    """The report while the night goes on, read-only, at an address with a token; Ctrl-C ends it, and not the night."""
    from harness.serve import server  # templates and languages take longer to load than most commands take
    from harness.serve.door import Door

    repo = git.open_repo(Path.cwd())
    ledger = Ledger(repo, latest(repo, tag))

    def ready(door: Door) -> None:
        if not door.ip.is_loopback:
            tunnel = f"`ssh -L {door.port}:127.0.0.1:{door.port} THIS-MACHINE`"
            say(
                f"warning: {address} is more than this machine alone, and this is plain HTTP: whoever can read the traffic of "
                "the network can read the token, and with it every score, diff and log; without --address, "
                f"{tunnel} on the other machine shows the same, and safely"
            )
        typer.echo(door.url)
        say(f"serving {ledger.tag}; Ctrl-C ends it")
        if show and not webbrowser.open(door.once()):
            say("no browser was found on this machine: open the address above, here or through `ssh -L`")

    with server.listen(address, port) as listening:
        server.serve(repo, ledger.tag, listening, ready)
    raise typer.Exit(130)


def say(text: str) -> None:
    """A line on stderr."""
    print(text, file=sys.stderr, flush=True)
