"""The command line `tappa`: one subcommand per installed entry point, one line per error.

Exit codes: 0 everything asked was decided; 1 something is open, undecided or violated; 2 bad usage
or bad input; 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from tappa_theory.app.commands import Command, installed_commands, print_error
from tappa_theory.app.processes import speaks
from tappa_theory.errors import InputError

# The base class of all parsing errors has moved between click and typer; BadParameter has not.
_USAGE_ERROR: type[Any] = typer.BadParameter.__bases__[0]


class _Subcommands(TyperGroup):
    """A group that answers an unknown name with the names it knows."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in self.commands:
            known = ", ".join(self.commands) or "none"
            raise InputError(f"no command {args[0]!r}; the commands are: {known}")
        return super().resolve_command(ctx, args)


def build_app(commands: Mapping[str, Command]) -> typer.Typer:
    """Return the typer application whose subcommands are `commands`."""
    app = typer.Typer(
        cls=_Subcommands,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback(invoke_without_command=True)(_tappa)
    for command in commands.values():
        _add(app, command)
    return app


def main(
    arguments: Sequence[str] | None = None, commands: Mapping[str, Command] | None = None
) -> int:
    """Run `tappa` and return its exit code.

    arguments  what follows `tappa`; the process's own arguments if None
    commands   the subcommands by name; the installed ones if None
    """
    try:
        code = _invoke(
            sys.argv[1:] if arguments is None else list(arguments),
            installed_commands() if commands is None else commands,
        )
        # A closed pipe must show up here, where it is handled, and not at interpreter exit.
        sys.stdout.flush()
    except InputError as error:
        print_error(str(error))
        return 2
    except _USAGE_ERROR as error:
        print_error(_usage_message(error))
        return 2
    except (KeyboardInterrupt, typer.Abort):
        if speaks():
            print("tappa: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The interpreter flushes stdout once more at exit, so it needs somewhere to write.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


def _invoke(arguments: list[str], commands: Mapping[str, Command]) -> int:
    command = typer.main.get_command(build_app(commands))
    try:
        with command.make_context("tappa", arguments) as context:
            return int(command.invoke(context) or 0)
    except typer.Exit as finished:
        return finished.exit_code


def _add(app: typer.Typer, command: Command) -> None:
    if command.missing is None:
        app.command(command.name, help=command.help)(command.function)
        return
    message = command.missing

    def fail() -> int:
        raise InputError(message)

    # Whatever the arguments, the answer is that the command is unavailable.
    anything = {"allow_extra_args": True, "ignore_unknown_options": True}
    app.command(command.name, help=command.help, context_settings=anything)(fail)


def _usage_message(error: Any) -> str:
    context = error.ctx
    hint = "" if context is None else f" (see `{context.command_path} --help`)"
    return error.format_message().rstrip(".") + hint


def _print_version(wanted: bool) -> None:
    if wanted:
        print("tappa", version("tappa"))
        raise typer.Exit


def _tappa(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Verify on real models what the theorems of TAPPA say about attention patterns.

    Exit codes: 0 everything asked was decided; 1 something is open, undecided or violated;
    2 bad usage or bad input; 130 interrupted.
    """
    if context.invoked_subcommand is None:
        print(context.get_help())
