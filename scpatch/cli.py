"""The command line: options, their help, and one call a command. Nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from scpatch import __version__
from scpatch.sites.choices import Hoist, NoNop, Undefined


class TableFormat(StrEnum):
    TABLE = "table"
    PLAIN = "plain"
    JSON = "json"


class TextFormat(StrEnum):
    TERMINAL = "terminal"
    PLAIN = "plain"
    JSON = "json"


Files = Annotated[
    list[Path], typer.Argument(metavar="FILE...", help="Objects (.o, .ko) and archives (.a).")
]
Before = Annotated[Path, typer.Argument(metavar="BEFORE", help="The object as it was.")]
After = Annotated[Path, typer.Argument(metavar="AFTER", help="The object as it is now.")]
Trampolines = Annotated[
    list[str],
    typer.Option(
        "--trampoline",
        "-t",
        metavar="GLOB",
        show_default="__SCT__*",
        help="Names of trampolines, a shell pattern; repeatable.",
    ),
]
UndefinedOption = Annotated[
    Undefined,
    typer.Option(
        help="Sites against trampolines that the object does not define: rewrite them, leave them "
        "to the module loader (skip), or skip them in a .ko only (auto)."
    ),
]
NoNopOption = Annotated[
    NoNop,
    typer.Option(help="Calls without a usable nop: refuse them, or give each a thunk of its own."),
]
AsmOffsets = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="The kernel's include/generated/asm-offsets.h, for what needs it."
    ),
]
PacaTocOffset = Annotated[
    int | None, typer.Option(metavar="N", min=0, help="PACATOC, where only that is needed.")
]
HoistOption = Annotated[
    Hoist,
    typer.Option(
        help="Save r2 in nops behind earlier calls: in a .ko (auto), also in an object that ends "
        "in a kernel, never in a shared object (kernel), or not (never)."
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print every call site.")]


def _patterns(trampoline: list[str]) -> tuple[str, ...]:
    """The patterns of trampolines' names, with or without the option."""
    return tuple(trampoline) or ("__SCT__*",)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"scpatch {__version__}")
        raise typer.Exit


def scpatch(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Make static calls keep the caller's r2 in ppc64le ELFv2 objects, and prove it."""


def scan(
    files: Files,
    trampoline: Trampolines = [],  # noqa: B006
    undefined: UndefinedOption = Undefined.AUTO,
    no_nop: NoNopOption = NoNop.REFUSE,
    hoist: HoistOption = Hoist.AUTO,
    lines: Annotated[
        bool, typer.Option("--lines/--no-lines", help="Look up source lines in DWARF.")
    ] = True,
    form: Annotated[
        TableFormat | None,
        typer.Option("--format", help="Table on a terminal, plain in a pipe, unless given."),
    ] = None,
) -> None:
    """List the trampolines and call sites of FILE..., and what each site needs."""
    from scpatch.commands import scan as command
    from scpatch.sites.choices import Choices

    choices = Choices(_patterns(trampoline), undefined.value, no_nop.value, hoist=hoist.value)
    raise typer.Exit(
        command.run(files, choices, form and form.value, lines=lines, patterns=trampoline)
    )


def rewrite(
    files: Files,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="OUT", help="Write here, not in place."),
    ] = None,
    strategy: Annotated[
        str,
        typer.Option(metavar="NAME", help="How r2 is kept; `scpatch explain` lists the ways."),
    ] = "callsite",
    trampoline: Trampolines = [],  # noqa: B006
    undefined: UndefinedOption = Undefined.AUTO,
    no_nop: NoNopOption = NoNop.REFUSE,
    hoist: HoistOption = Hoist.AUTO,
    asm_offsets: AsmOffsets = None,
    paca_toc_offset: PacaTocOffset = None,
    emit_sites: Annotated[
        bool,
        typer.Option("--emit-sites", help="Add the table of call sites, .static_call_sites."),
    ] = False,
    unmark: Annotated[
        bool, typer.Option("--unmark", help="With callsite: undo what localentry has done.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Say what would be done, write nothing.")
    ] = False,
    diff: Annotated[bool, typer.Option("--diff", help="Show the changed code.")] = False,
    backup: Annotated[
        bool, typer.Option("--backup", help="Keep the old file as FILE.orig.")
    ] = False,
    keep_going: Annotated[
        bool,
        typer.Option(
            "--keep-going", "-k", help="Rewrite the other sites and files when one is refused."
        ),
    ] = False,
    stats: Annotated[
        bool, typer.Option("--stats", help="Print counts by section and state.")
    ] = False,
    form: Annotated[
        TableFormat | None,
        typer.Option("--format", help="Print the result on stdout in this form."),
    ] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Rewrite the call sites of FILE..., in place or to OUT.

    All files are written, or none of them.
    """
    from scpatch.commands import rewrite as command
    from scpatch.rewriter import Options
    from scpatch.sites.choices import Choices
    from scpatch.strategies import names, options

    if strategy != "callsite" and strategy not in names():
        raise typer.BadParameter(
            f"{strategy!r} is none of {', '.join(names())}", param_hint="--strategy"
        )
    if unmark and strategy != "callsite":
        raise typer.BadParameter("goes with --strategy callsite", param_hint="--unmark")
    if output is not None and (len(files) != 1 or backup):
        other = "--backup" if backup else "several files"
        raise typer.BadParameter(f"does not go with {other}", param_hint="-o")
    if quiet and verbose:
        raise typer.BadParameter("does not go with --quiet", param_hint="--verbose")
    choices = Choices(_patterns(trampoline), undefined.value, no_nop.value, hoist=hoist.value)
    asked = command.Asked(
        patterns=trampoline,
        target=output,
        dry_run=dry_run,
        diff=diff,
        backup=backup,
        keep_going=keep_going,
        stats=stats,
        form=form and form.value,
        quiet=quiet,
        verbose=verbose,
    )
    raise typer.Exit(
        command.run(
            files,
            Options(
                strategy,
                choices,
                options(asm_offsets, paca_toc_offset, unmark=unmark),
                "all" if verbose else "refused",
                emit_sites,
            ),
            asked,
        )
    )


def diff(
    before: Before,
    after: After,
    form: Annotated[
        TextFormat | None,
        typer.Option("--format", help="For a terminal, plain in a pipe, unless given."),
    ] = None,
    context: Annotated[
        int, typer.Option("--context", "-U", min=0, help="Unchanged instructions to show around.")
    ] = 3,
) -> None:
    """Show what differs between two versions of an object, whoever changed it.

    Exit codes: 0 the same, 1 different.
    """
    from scpatch.commands import diff as command

    raise typer.Exit(command.run(before, after, form and form.value, context))


def verify(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="BEFORE AFTER | [OBJECT]... IMAGE", show_default=False),
    ],
    run: Annotated[
        bool, typer.Option("--run/--no-run", help="Execute every site under QEMU.")
    ] = True,
    trampoline: Trampolines = [],  # noqa: B006
    hoist: Annotated[
        Hoist,
        typer.Option(help="What the file was rewritten with: kernel permits more than auto."),
    ] = Hoist.AUTO,
    asm_offsets: AsmOffsets = None,
    paca_toc_offset: PacaTocOffset = None,
    form: Annotated[
        TextFormat | None,
        typer.Option("--format", help="For a terminal, plain in a pipe, unless given."),
    ] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Prove that AFTER is BEFORE with every call site right, and execute both.

    With a linked IMAGE last: prove that every call site in it has its save and its restore, and
    that there are as many as in the OBJECTs and archives that it was linked from.

    Exit codes: 0 proven, 1 not proven or not shown.
    """
    from scpatch.commands import verify as command
    from scpatch.strategies import options

    if len(files) != 2 and not command.is_link(files):
        raise typer.BadParameter("two files, or a linked image behind its objects")
    raise typer.Exit(
        command.run(
            files,
            _patterns(trampoline),
            patterns=trampoline,
            execute=run,
            for_kernel=hoist is Hoist.KERNEL,
            form=form and form.value,
            quiet=quiet,
            verbose=verbose,
            offsets=options(asm_offsets, paca_toc_offset, unmark=False).offsets,
        )
    )


def advise(
    files: Files,
    image: Annotated[
        bool, typer.Option("--image", help="FILE... end in the kernel's image, not in a module.")
    ] = False,
    trampoline: Trampolines = [],  # noqa: B006
    no_nop: NoNopOption = NoNop.REFUSE,
    asm_offsets: AsmOffsets = None,
    paca_toc_offset: PacaTocOffset = None,
    form: Annotated[
        TableFormat | None,
        typer.Option("--format", help="Table on a terminal, plain in a pipe, unless given."),
    ] = None,
) -> None:
    """Say what each strategy would change in FILE... and cost, and which one to take.

    Nothing is written.
    """
    from scpatch.commands import advise as command
    from scpatch.rewriter import Options
    from scpatch.sites.choices import Choices
    from scpatch.strategies import options

    choices = Choices(_patterns(trampoline), no_nop=no_nop.value)
    if image:
        choices = choices._replace(undefined=Undefined.REWRITE, hoist=Hoist.KERNEL)
    own = options(asm_offsets, paca_toc_offset, unmark=False)
    asked = Options(None, choices, own)
    raise typer.Exit(
        command.run(files, asked, form and form.value, image=image, patterns=trampoline)
    )


def explain(
    topic: Annotated[
        str | None,
        typer.Argument(metavar="[CODE|STRATEGY]", help="Such as SCP203 or callsite."),
    ] = None,
) -> None:
    """Print the long text behind a diagnostic or a strategy; without one, list them."""
    from scpatch.commands import explain as command

    raise typer.Exit(command.run(topic))


COMMANDS: Mapping[str, tuple[Callable[..., None], str]] = {
    "scan": (scan, "List trampolines and call sites."),
    "rewrite": (rewrite, "Rewrite call sites, in place or to OUT."),
    "diff": (diff, "Show what differs between two versions."),
    "verify": (verify, "Prove a rewritten file, and execute it."),
    "advise": (advise, "Say which strategy to take."),
    "explain": (explain, "Print the text behind a diagnostic."),
}
"""What runs a command, and its line in the list of all."""


def application(asked: str) -> typer.Typer:
    """The command line; only with the command `asked`, where that is the name of one.

    Typer takes apart the options of every command that it knows, which a build would pay for
    each object.
    """
    app = typer.Typer(
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
        help="Make static calls keep the caller's r2 in ppc64le ELFv2 objects, and prove it.",
        epilog="Exit codes: 0 done, 1 error, 2 usage, 3 a call site was refused.",
    )
    app.callback()(scpatch)
    for name in [asked] if asked in COMMANDS else COMMANDS:
        run, short_help = COMMANDS[name]
        app.command(name, short_help=short_help)(run)
    if asked not in COMMANDS:
        from scpatch.kbuild.cli import app as kbuild

        app.add_typer(kbuild, name="kbuild")
    return app
