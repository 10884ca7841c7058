"""The parser of the command line, made from the tables in `commands`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import click
from click.shell_completion import CompletionItem
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from scpatch import __version__
from scpatch.command_line import run
from scpatch.commands import COMMANDS, EXIT_CODES, KBUILD, KBUILD_TEXT, TEXT, Command
from scpatch.options import Parameter, UsageError, Values, suggestion

_SETTINGS = {"help_option_names": ["-h", "--help"]}


class _Type(click.ParamType):  # type: ignore[type-arg]
    """Reads and completes the values of a parameter."""

    def __init__(self, parameter: Parameter) -> None:
        self.name = parameter.value_name
        self._parameter = parameter

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> object:
        if not isinstance(value, str):
            return value  # a default
        try:
            return self._parameter.read(value)
        except UsageError as error:
            raise _with_hint(error, ctx) from error

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        words = self._parameter.words
        return [CompletionItem(word) for word in words if word.startswith(incomplete)]


class _Group(TyperGroup):
    """A command that has commands."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        word = args[0]
        if not word.startswith("-") and self.get_command(ctx, word) is None:
            error = UsageError(f"unknown command {word!r}", hint=suggestion(word, self.commands))
            raise _with_hint(error, ctx)
        return super().resolve_command(ctx, args)


def usage_error(error: click.ClickException) -> UsageError:
    """The message for what the parser does not understand."""
    if isinstance(error, click.NoSuchOption):
        hint = f"did you mean {' or '.join(error.possibilities)}?" if error.possibilities else ""
        return _with_hint(UsageError(f"unknown option {error.option_name}", hint=hint), error.ctx)
    text = error.format_message().rstrip(".")
    context = error.ctx if isinstance(error, click.UsageError) else None
    return _with_hint(UsageError(text[:1].lower() + text[1:]), context)


def _with_hint(error: UsageError, context: click.Context | None) -> UsageError:
    return error.with_hint(context.command_path if context is not None else "scpatch")


def application(first: str) -> TyperGroup:
    """The command line. If its first word is a command, only that is made: a build would pay for
    the others each time."""
    known = {first: COMMANDS[first]} if first in COMMANDS else COMMANDS
    commands = _commands("commands", known)
    if first not in COMMANDS:
        commands["kbuild"] = _Kbuild(
            commands=_commands("kbuild", KBUILD),
            help=KBUILD_TEXT,
            short_help="Make scpatch a step of a Linux kernel's build.",
            no_args_is_help=True,
            rich_markup_mode=None,
            context_settings=_SETTINGS,
        )
    version = TyperOption(
        param_decls=["--version"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_print_version,
        help="Print the version.",
    )
    return _Group(
        commands=commands,
        params=[version],
        help=TEXT,
        epilog=EXIT_CODES,
        no_args_is_help=True,
        rich_markup_mode=None,
        context_settings=_SETTINGS,
    )


class _Kbuild(_Group):
    """`scpatch kbuild`, whose help also has the options of `scpatch-ld`."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from scpatch.help import BUILD_VARIABLES, grouped, strategy_rows
        from scpatch.kbuild.settings import OPTIONS, spelling

        for group, options in grouped(OPTIONS):
            rows = [(spelling(option), option.full_help) for option in options]
            _write(formatter, f"{group} (options of scpatch-ld)", rows)
        _write(formatter, "Strategies", strategy_rows(OPTIONS))
        _write(formatter, "Environment", BUILD_VARIABLES)
        super().format_options(ctx, formatter)


class _Command(TyperCommand):
    """A command, whose help has its options in groups."""

    parameters: Sequence[Parameter] = ()

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from scpatch.help import grouped, strategy_rows, variables

        params = {param.name: param for param in self.get_params(ctx)}
        records = {name: param.get_help_record(ctx) for name, param in params.items()}
        arguments = [entry for entry in self.parameters if entry.is_argument]
        for title, entries in (("Arguments", arguments), *grouped(self.parameters)):
            rows = [records.pop(entry.name) for entry in entries]
            _write(formatter, title, [row for row in rows if row is not None])
        _write(formatter, "Strategies", strategy_rows(self.parameters))
        _write(formatter, "Environment", variables(self.parameters))
        _write(formatter, "Help", [row for row in records.values() if row is not None])


def _write(formatter: click.HelpFormatter, title: str, rows: list[tuple[str, str]]) -> None:
    if rows:
        with formatter.section(title):
            formatter.write_dl(rows)


def _print_version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(f"scpatch {__version__}")
        ctx.exit()


def _commands(package: str, commands: Mapping[str, Command]) -> dict[str, click.Command]:
    return {name: _command(package, name, command) for name, command in commands.items()}


def _command(package: str, name: str, command: Command) -> TyperCommand:
    settings = (
        {"ignore_unknown_options": True, "help_option_names": []} if command.hidden else _SETTINGS
    )
    new = _Command(
        name,
        callback=_caller(package, name, command),
        params=[_parameter(parameter) for parameter in command.parameters],
        help=command.text,
        short_help=command.text.partition("\n")[0],
        hidden=command.hidden,
        rich_markup_mode=None,
        context_settings=settings,
    )
    new.parameters = command.parameters
    return new


def _caller(package: str, name: str, command: Command) -> Callable[..., int]:
    """What runs a command with the values of its parameters."""

    def call(**values: object) -> int:
        return run(package, name, command, Values(**values))

    return call


def _parameter(parameter: Parameter) -> click.Parameter:
    if parameter.is_argument:
        return TyperArgument(
            param_decls=[parameter.name],
            type=_Type(parameter),
            metavar=parameter.metavar,
            nargs=-1 if parameter.repeatable else 1,
            required=parameter.required,
            help=parameter.help,
        )
    switch = parameter.kind is bool
    flags = "/".join(filter(None, [parameter.flag, parameter.off_flag]))
    return TyperOption(
        param_decls=[parameter.name, flags, *filter(None, [parameter.short])],
        type=None if switch else _Type(parameter),
        is_flag=switch,
        default=parameter.initial,
        metavar=None if switch else parameter.value_name,
        multiple=parameter.repeatable,
        help=parameter.full_help,
    )
