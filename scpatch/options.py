"""The options of the command lines, as data: what each is called, takes, and is for.

`scpatch` and `scpatch-ld` read their options by these definitions, and the man pages come from
them. `commands` lists those of each command, `kbuild.settings` those of the build step. Light to
import: a build starts scpatch for each link.
"""

from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, NamedTuple, Self

from scpatch import strategies
from scpatch.errors import Exit, ScpatchError
from scpatch.report import forms
from scpatch.report.look import Color, Look
from scpatch.sites.choices import DEFAULT_TRAMPOLINES, Hoist, NoNop, Undefined

if TYPE_CHECKING:
    from scpatch.files.selection import Selection
    from scpatch.report.filters import Filter
    from scpatch.rewriter import Options

Value = bool | int | str | Path


class UsageError(ScpatchError):
    """The command line is wrong: SCP401, exit code 2."""

    status = Exit.USAGE

    def __init__(self, message: str, *, file: str = "", hint: str = "") -> None:
        super().__init__("SCP401", message, file=file, hint=hint)

    def with_hint(self, command: str) -> Self:
        """The error with a hint: its own, or how to get the help of a command."""
        self.hint = self.hint or f"`{command} --help` says how to call it"
        return self


def suggestion(word: str, known: Iterable[str]) -> str:
    """The hint for a word that nobody knows: the known words that are like it, if there are any."""
    from difflib import get_close_matches

    # The dashes of flags would make any two of them alike.
    by_name = {name.lstrip("-"): name for name in known}
    bare = word.lstrip("-")
    matches = [bare] if bare in by_name else get_close_matches(bare, list(by_name))
    names = " or ".join(by_name[match] for match in matches)
    return f"did you mean {names}?" if names else ""


class Group(StrEnum):
    """Where the help lists an option, in the order of the help."""

    SELECTION = "Selection"
    STRATEGY = "Strategy"
    KERNEL = "Kernel"
    OUTPUT = "Output"
    REPORT = "Report"
    TOOLS = "Tools"
    OTHER = "Options"


class Parameter(NamedTuple):
    """An option or an argument."""

    name: str
    """Of the value. An option is `--NAME`, with dashes, and in the singular if it is repeatable."""
    help: str
    kind: type[Value] = bool
    """Of the value. A bool is a switch; one that may be on unless it is given has a `--no-NAME` to
    turn it off."""
    metavar: str = ""
    """What the help calls the value; an enum needs none."""
    default: Value | None = None
    shown_default: str = ""
    """What the help gives as the default, if it is not `default`."""
    short: str = ""
    repeatable: bool = False
    choices: Callable[[], Sequence[str]] | None = None
    """The valid values, if they are not those of an enum."""
    is_argument: bool = False
    required: bool = True
    """Only an argument can be."""
    group: Group = Group.OTHER

    @property
    def flag(self) -> str:
        """What messages call it: the long flag of an option."""
        name = self.name.removesuffix("s") if self.repeatable else self.name
        return self.metavar if self.is_argument else "--" + name.replace("_", "-")

    @property
    def off_flag(self) -> str:
        """The flag that turns a switch off that may be on; else empty."""
        may_be_on = self.default or self.shown_default
        return f"--no-{self.name}" if self.kind is bool and may_be_on else ""

    @property
    def words(self) -> tuple[str, ...]:
        """The valid values, if they are a few words."""
        if issubclass(self.kind, StrEnum):
            return tuple(self.kind)
        return () if self.choices is None else tuple(self.choices())

    @property
    def value_name(self) -> str:
        """What the help calls the value."""
        return self.metavar or "|".join(self.words)

    @property
    def initial(self) -> Value | tuple[()] | None:
        """The value that it has unless one is given."""
        if self.repeatable:
            return ()
        if self.kind is bool and not self.shown_default:
            return bool(self.default)
        return self.default

    @property
    def full_help(self) -> str:
        """The help, with the default."""
        default = self.shown_default or ("" if self.default is None else str(self.default))
        if self.kind is bool and not self.shown_default:
            default = self.name if self.default else ""
        return f"{self.help}  [default: {default}]" if default else self.help

    def read(self, text: str) -> Value:
        """The value that `text` stands for. Raises UsageError."""
        words = self.words
        if words and text not in words:
            hint = suggestion(text, words)
            raise self.wrong(f"{text!r} is not one of {', '.join(words)}", hint=hint)
        if not text:
            raise self.wrong("it is empty")
        if self.kind is int and not (text.isascii() and text.isdecimal()):
            raise self.wrong(f"{text!r} is not a number, 0 or more")
        return self.kind(text)

    def wrong(self, reason: str, *, hint: str = "") -> UsageError:
        """The error for a value that is wrong, or that does not go with another one."""
        return UsageError(f"invalid value for {self.flag}: {reason}", hint=hint)


def argument(
    metavar: str,
    text: str,
    kind: type[Value] = Path,
    *,
    repeatable: bool = False,
    required: bool = True,
) -> Parameter:
    """An argument. Those that are repeatable have the name `files`."""
    name = "files" if repeatable else metavar.lower()
    new = Parameter(name, text, kind, metavar, is_argument=True)
    return new._replace(repeatable=repeatable, required=required)


def _patterns(name: str, text: str) -> Parameter:
    """An option for shell patterns, in the group of those that select what a report shows."""
    return Parameter(name, text, str, "GLOB", repeatable=True, group=Group.REPORT)


TRAMPOLINES = _patterns(
    "trampolines", "Names of trampolines, a shell pattern; repeatable."
)._replace(short="-t", shown_default=DEFAULT_TRAMPOLINES[0], group=Group.SELECTION)
UNDEFINED = Parameter(
    "undefined",
    "Calls of trampolines that the object does not define: rewrite them, leave them to the module "
    "loader (skip), or skip them in .ko files only (auto).",
    Undefined,
    default=Undefined.AUTO,
    group=Group.SELECTION,
)
NO_NOP = Parameter(
    "no_nop",
    "Calls without a usable nop: refuse them, or send each through its own thunk.",
    NoNop,
    default=NoNop.REFUSE,
    group=Group.STRATEGY,
)
HOIST = Parameter(
    "hoist",
    "Reuse the nop after an earlier call to save r2. auto: only in .ko files; kernel: also in "
    "objects that will be linked into a kernel; never: off.",
    Hoist,
    default=Hoist.AUTO,
    group=Group.STRATEGY,
)
STRATEGY = Parameter(
    "strategy",
    "How to preserve r2: a strategy (`scpatch explain NAME`).",
    str,
    "NAME",
    default=strategies.DEFAULT,
    choices=strategies.names,
    group=Group.STRATEGY,
)
ASM_OFFSETS = Parameter(
    "asm_offsets", "The kernel's generated asm-offsets.h.", Path, "FILE", group=Group.KERNEL
)
PACA_TOC_OFFSET = Parameter(
    "paca_toc_offset",
    "PACATOC offset in bytes, if you have no asm-offsets.h.",
    int,
    "N",
    group=Group.KERNEL,
)
UNMARK = Parameter(
    "unmark", "Rewrite calls of trampolines that are marked for the linker.", group=Group.STRATEGY
)
EMIT_SITES = Parameter(
    "emit_sites", "Add the table of call sites, .static_call_sites.", group=Group.STRATEGY
)
STRIP_SIGNATURE = Parameter(
    "strip_signature", "Rewrite signed modules too, without their signatures.", group=Group.STRATEGY
)
FILES_FROM = Parameter(
    "files_froms",
    "Also take the files and folders that FILE lists, one a line; - is stdin; repeatable.",
    Path,
    "FILE",
    repeatable=True,
    group=Group.SELECTION,
)
NULL = Parameter(
    "null",
    "In such a list, a NUL ends a name, as of `find -print0`.",
    short="-0",
    group=Group.SELECTION,
)
JOBS = Parameter(
    "jobs",
    "Processes that work on the files.",
    int,
    "N",
    shown_default="one for each processor if there are many files",
    short="-j",
    group=Group.SELECTION,
)
OUTPUT_DIR = Parameter(
    "output_dir",
    "Write to the same places in DIR, changed or not; folders are made.",
    Path,
    "DIR",
    group=Group.OUTPUT,
)
DASK = Parameter(
    "dask",
    "Let the workers of this scheduler work on the files.",
    str,
    "ADDRESS",
    group=Group.SELECTION,
)
SELECTION = (FILES_FROM, NULL, JOBS, DASK)
"""What each command takes that works on any number of files."""
SYNC = Parameter(
    "sync",
    "Wait until new files are on the disk.",
    shown_default="only for a file that replaces its old content",
    group=Group.OUTPUT,
)
VERIFY = Parameter(
    "verify",
    "Prove and execute new files, as `scpatch verify` does, before they have their names.",
    group=Group.OUTPUT,
)
QUIET = Parameter("quiet", "Print errors only.", short="-q", group=Group.REPORT)
VERBOSE = Parameter("verbose", "Print every call site.", short="-v", group=Group.REPORT)
FORMAT = Parameter(
    "format", "Output format.", str, default="text", choices=lambda: forms.FORMS, group=Group.REPORT
)
COLOR = Parameter("color", "Colour text.", Color, default=Color.AUTO, group=Group.REPORT)
WIDE = Parameter(
    "wide", "Never shorten names, even if lines get longer than the terminal.", group=Group.REPORT
)
CONTEXT = Parameter(
    "context",
    "Unchanged instructions to show around changed code.",
    int,
    "N",
    3,
    short="-U",
    group=Group.REPORT,
)
PAGER = Parameter(
    "pager",
    "Page text that is longer than the terminal with SCPATCH_PAGER, PAGER or less.",
    default=True,
    group=Group.REPORT,
)
FILTERS = (
    _patterns("functions", "Show only what is in these functions, a shell pattern; repeatable."),
    _patterns("sections", "Show only what is in these sections, a shell pattern; repeatable."),
    _patterns(
        "callees",
        "Show only calls of these trampolines, a shell pattern; repeatable. (--trampoline says "
        "which symbols are trampolines.)",
    ),
)
"""What selects the contents of a report. What is done and counted does not depend on them."""
STATE = Parameter(
    "states",
    "Show only calls in this state; repeatable.",
    str,
    "STATE",
    repeatable=True,
    choices=lambda: [str(state) for state in strategies.every_action()],
    group=Group.REPORT,
)
LOOK = (FORMAT, COLOR, WIDE, PAGER)
"""What each command with a report takes."""


class Values(SimpleNamespace):
    """The values of the parameters of a command line, by their names."""


def look(values: Values) -> Look:
    """How the text of a report looks."""
    return Look(values.color, values.wide, values.pager)


def shown(values: Values) -> "Filter":
    """What a report shows."""
    from scpatch.report.filters import Filter

    return Filter(*(getattr(values, name, ()) for name in Filter._fields))


def check_workers(values: Values) -> None:
    """Raises UsageError if the values of JOBS and DASK do not go together."""
    if values.dask is not None and values.jobs is not None:
        raise UsageError("--dask does not go with --jobs")


def selection(values: Values, *, output_dir: Path | None = None) -> "Selection":
    """The files that a command line names, to be copied to a folder if there is one. Raises
    UsageError if it names none, and ScpatchError as `select` does."""
    from scpatch.files.selection import select

    check_workers(values)
    if not values.files and not values.files_froms:
        raise UsageError("missing argument 'FILE...'")
    copies = output_dir is not None
    lists = values.files_froms
    selected = select(values.files, lists, null=values.null, copies=copies, but=output_dir)
    if not selected.files and not selected.errors:
        warn_of_empty(lists)
    return selected


def warn_of_empty(lists: Sequence[Path]) -> None:
    """Warns of lists that select nothing. Without lists there is nothing to warn of."""
    if lists:
        from scpatch.report.messages import warn_of_no_files

        warn_of_no_files(lists)


def library_options(values: Values, **more: object) -> "Options":
    """The options of the library among the values of a command line; `more` replaces some.

    Raises UsageError if two of them do not go together, and ScpatchError for a file without
    offsets.
    """
    from scpatch.linux.offsets import Offsets, read_asm_offsets
    from scpatch.rewriter import Options

    given = vars(values)
    options = {name: value for name, value in given.items() if name in Options._fields} | more
    if not options.get("trampolines"):
        options.pop("trampolines", None)
    if options.get("unmark") and "unmark" not in strategies.load(options["strategy"]).takes:
        taking = [name for name in strategies.names() if "unmark" in strategies.load(name).takes]
        raise UNMARK.wrong(f"it goes with --strategy={' or '.join(taking)} only")
    header, toc = given.get("asm_offsets"), given.get("paca_toc_offset")
    offsets = read_asm_offsets(header) if header is not None else Offsets()
    options["offsets"] = offsets if toc is None else offsets._replace(paca_toc=toc)
    return Options(**options)
