"""The `mesh` command. Each verb is loaded when it is used, so that `mesh get` does not pay for `mesh doctor`.

Exit codes: 0 done, 1 failed definitely, 2 wrong usage, 3 outcome unknown. An error is one line on stderr that says what to do.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from typing import Any, Final

import click

from crdt.native import build
from mesh.control.protocol import DONE, FAILED, UNKNOWN, USAGE
from mesh.errors import InvalidPath, MeshError
from tools.control import ControlError

COMMANDS: Final = {
    "init": "tools.cli.enrol:init",
    "up": "tools.cli.up:up",
    "invite": "tools.cli.enrol:invite",
    "join": "tools.cli.enrol:join",
    "members": "tools.cli.look:members",
    "status": "tools.cli.look:status",
    "get": "tools.cli.look:get",
    "put": "tools.cli.put:put",
    "watch": "tools.cli.look:watch",
    "history": "tools.cli.look:history",
    "propose": "tools.cli.agree:propose",
    "lease": "tools.cli.lease:lease",
    "quorum": "tools.cli.quorum:quorum",
    "verify": "tools.cli.quorum:verify",
    "keys": "tools.cli.keys:keys",
    "doctor": "tools.cli.doctor:doctor",
    "demo": "tools.demo:command",
    "sim": "tools.sim.cli:command",
    "bench": "tools.bench.command:command",
}
"""In the order in which a newcomer needs them."""


class MeshGroup(click.Group):
    """Loads verbs late, and turns every foreseen failure into one line and the right exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in COMMANDS if self._is_installed(name)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS or not self._is_installed(cmd_name):
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            # Whoever read our output has seen enough. Python would complain about it once more while exiting.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(DONE)
        return result

    def main(self, *args: Any, **extra: Any) -> Any:
        try:
            code = super().main(*args, **{"prog_name": "mesh", **extra, "standalone_mode": False})
        except (click.exceptions.Exit, click.ClickException, click.Abort, KeyboardInterrupt, MeshError, OSError) as error:
            code = explain(error)
        except BaseExceptionGroup as group:
            if group.split(KeyboardInterrupt)[1] is not None:
                raise
            code = explain(KeyboardInterrupt())  # a second Ctrl-C, while what the first one asked for was under way
        sys.exit(code if isinstance(code, int) else DONE)

    @staticmethod
    def _is_installed(name: str) -> bool:
        found = importlib.util.find_spec(COMMANDS[name].partition(":")[0])
        return found is not None and found.origin is not None


_NOTHING_ASKED: Final = getattr(click.exceptions, "NoArgsIsHelpError", ())
"""Since click 8.2. Before, it showed the help by itself."""


def explain(error: BaseException) -> int:
    """Say on stderr, in one line, what went wrong; the exit code for it. Who asked for nothing is shown what there is."""
    match error:
        case click.UsageError() if isinstance(error, _NOTHING_ASKED):
            click.echo(error.format_message(), err=True)
            return USAGE
        case click.exceptions.Exit():
            return error.exit_code
        case click.UsageError():
            where = error.ctx.command_path if error.ctx else "mesh"
            complain(f"{error.format_message()} See `{where} --help`.")
            return USAGE
        case click.ClickException():
            complain(error.format_message())
            return error.exit_code
        case ControlError():
            complain(str(error))
            return error.exit_code
        case InvalidPath():
            complain(str(error))
            return USAGE
        case OSError():
            complain(f"{error.filename}: {error.strerror}" if error.filename else str(error))
            return FAILED
        case click.Abort() | KeyboardInterrupt():
            complain("interrupted")
            return FAILED
        case _:
            complain(str(error))
            return FAILED


def complain(message: str) -> None:
    click.echo("mesh: " + " ".join(message.split()), err=True)


@click.group("mesh", cls=MeshGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="gossipmesh", message=f"gossipmesh %(version)s, {build()}")
def cli() -> None:
    """Agents that share signed state with no server.

    \b
    A first mesh:           mesh init demo --name a && mesh up
    A second machine:       mesh invite --name b      (on the first)
                            mesh join TOKEN && mesh up
    What is shared:         mesh put robots/7/pose '[1, 2]'; mesh get robots/7/pose; mesh watch robots/
    """


def main() -> None:
    """The console script."""
    fill_standard_streams()
    cli.main()


def fill_standard_streams() -> None:
    """A program may be started with these closed. Whatever is opened first would stand in their place: a database would have
    error messages written into it."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            stream = open(os.devnull, "r+")  # noqa: SIM115  # takes the lowest free number, this one
            setattr(sys, name, stream)


__all__ = ["FAILED", "UNKNOWN", "USAGE", "cli", "complain", "main"]
