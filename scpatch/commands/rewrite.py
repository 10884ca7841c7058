"""`scpatch rewrite`: plan all files, say what is refused, write all or nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from scpatch import batch
from scpatch.errors import Exit, RefusedError, ScpatchError
from scpatch.files.inputs import THIN_ARCHIVE, open_input
from scpatch.files.output import write_content
from scpatch.files.selection import Selected, Selection
from scpatch.options import UsageError, Values, library_options, look, selection, shown
from scpatch.report.errors import Kind, print_errors, print_message
from scpatch.report.forms import print_report
from scpatch.report.messages import (
    note_intermediate,
    note_left_out,
    print_refusals,
    print_sites,
    print_stats,
    print_unmatched,
)
from scpatch.report.progress import progress_bar
from scpatch.report.words import clean, summary_line, total_line
from scpatch.rewriter import (
    Check,
    FilePlan,
    Options,
    check_refused,
    is_same,
    plan_file,
    without_repeats,
    write,
)
from scpatch.sites.choices import DEFAULT_TRAMPOLINES

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from scpatch.differ.model import ObjectDiff
    from scpatch.report.diff import DiffReport
    from scpatch.report.screen import Look

_STDOUT = Path("-")

_NOTE = "Kbuild makes it for modpost, and links the image from vmlinux.a on powerpc"
_ADVICE = (
    "to get an image that is right, build with LD='scpatch-ld LINKER', or with LD='scpatch-ld "
    "--prelink LINKER' from one object (scpatch kbuild --help)"
)
"""About an object of Kbuild's that is not linked into anything. It has no mark but its name."""


def run(values: Values) -> Exit:
    """Rewrites the files; returns the exit code of the worst thing that happened.

    Raises UsageError for options that do not go together.
    """
    options = _options(values)
    files = selection(values, copies=values.output_dir is not None)
    stream = _is_stream(values, files)
    with (
        batch.workers(values.jobs, len(files.files), dask=values.dask) as executor,
        progress_bar(len(files.files), "planning", "writing", quiet=values.quiet) as step,
    ):
        items = [(file.source, options, _target(file, values)) for file in files.files]
        work = partial(batch.attempt, plan_file)
        sorted_out = files.sort_out(batch.run(work, items, executor, progress=step))
        plans, clashes = without_repeats(sorted_out.results)
        errors = [*sorted_out.errors, *clashes]
        print_errors(errors)
        print_refusals(plans)
        writing = values.keep_going or not errors
        failed: list[ScpatchError] = []
        differences: DiffReport | None = None
        try:
            if writing and stream:
                for plan in plans:
                    _write_stream(plan, files.files[0].source, values)
            elif writing:
                differences = _write(plans, values, executor, failed, step)
        except RefusedError:
            writing = False
    print_errors(failed)
    written = writing and not values.dry_run
    lost = [error.file for error in failed]
    done = [plan for plan in plans if not _is_among(plan, lost)]
    if values.format is not None:
        from scpatch.report.rewrite import RewriteReport

        report = RewriteReport(
            *(done, written, shown(values), files.many, differences),
            details=values.format == "html",
            failed=[*errors, *failed],
        )
        print_report(report, values.format, _look(values))
    if not values.quiet:
        note_left_out(files.links, sorted_out.foreign)
        _summarize(done, values, brief=files.many, written=written)
    if not writing:
        rest = any(plan.outputs for plan in plans)
        advice = "; --keep-going rewrites the rest" if rest else ""
        print_message(Kind.NOTE, f"nothing was written{advice}")
    if errors or failed:
        return Exit.ERROR
    return Exit.REFUSED if any(plan.refused for plan in plans) else Exit.OK


def _is_among(plan: FilePlan, files: Sequence[str]) -> bool:
    """Whether an output of a plan, or a member of one, is among files that could not be written."""
    targets = [str(output.target) for output in plan.outputs]
    return any(file == name or file.startswith(f"{name}(") for file in files for name in targets)


def _look(values: Values) -> Look:
    """How a report looks. What is to be written must not wait for a user to leave a pager."""
    return look(values)._replace(pager=values.pager and values.dry_run)


def _options(values: Values) -> Options:
    if values.output is not None and (len(values.files) != 1 or values.files_froms):
        raise UsageError("--output does not go with several files")
    for other in ("output", "output_dir"):
        if getattr(values, other) is not None and values.backup:
            raise UsageError(f"--{other.replace('_', '-')} does not go with --backup")
    if values.output is not None and values.output_dir is not None:
        raise UsageError("--output does not go with --output-dir")
    if values.depfile is not None:
        if values.output is None and values.output_dir is None:
            raise UsageError(
                "--depfile needs --output or --output-dir: no file is made from itself"
            )
        if any(path.is_dir() for path in values.files):
            raise UsageError(
                "--depfile does not go with a folder: name the files, or a list of them"
            )
    if values.verify and values.dry_run:
        raise UsageError("--verify does not go with --dry-run: it proves what is written")
    if values.quiet and values.verbose:
        raise UsageError("--verbose does not go with --quiet")
    return library_options(values, lines="all" if values.verbose else "refused")


def _target(file: Selected, values: Values) -> Path | None:
    """Where the new file goes; None: in place, or where its content is written to."""
    if values.output_dir is not None:
        return Path(values.output_dir, file.relative)
    return None if values.output == _STDOUT or isinstance(file.source, bytes) else values.output


def _is_stream(values: Values, files: Selection) -> bool:
    """Whether the file comes from stdin or goes to stdout. Raises UsageError if something else is
    to go there too, and for what cannot be."""
    from_stdin = any(isinstance(file.source, bytes) for file in files.files)
    if values.output is not None and files.many:
        raise UsageError("--output does not go with a folder; --output-dir does")
    if from_stdin and (len(files.files) > 1 or values.output_dir is not None):
        raise UsageError("- does not go with other files, nor with --output-dir")
    if values.output != _STDOUT and not from_stdin:
        return False
    to_stdout = values.output in (None, _STDOUT)
    for other in ("diff", "backup", "depfile", *["format"] * to_stdout):
        if getattr(values, other):
            raise UsageError(f"--{other} does not go with a file from stdin or on stdout")
    if to_stdout and sys.stdout.isatty() and not values.dry_run:
        raise UsageError("stdout is a terminal: name a file by --output, or redirect it")
    return True


def _write_stream(plan: FilePlan, source: Path | bytes, values: Values) -> None:
    """Writes the new file to stdout, or what came from stdin to a file. Raises RefusedError as
    `_write`, and SCP110 if it is several files."""
    if not values.keep_going:
        check_refused([plan])
    try:
        data = plan.data
    except ValueError as error:
        what = "cannot write a thin archive and its members to stdout"
        raise ScpatchError("SCP110", what, file=str(plan.path)) from error
    if values.dry_run:
        return
    if values.verify:
        from scpatch.proving import prove_content

        prove_content(source, data, str(plan.path), library_options(values))
    if values.output in (None, _STDOUT):
        sys.stdout.buffer.write(data)
    else:
        write_content(values.output, data)


def _write(
    plans: Sequence[FilePlan],
    values: Values,
    executor: Executor | None,
    failed: list[ScpatchError],
    step: batch.Progress,
) -> DiffReport | None:
    """Puts the outputs in place, all or none; with --keep-going, all but those that fail. Before
    that, shows what would differ, or returns it if it is for the report.

    Raises RefusedError if call sites were refused, without --keep-going.
    """
    if not values.keep_going:
        check_refused(plans)
    differences: DiffReport | None = None
    if values.diff:
        from scpatch.report.diff import DiffReport

        differences = DiffReport(list(_differences(plans, values)), shown=shown(values))
        if values.format in (None, "text"):
            print_report(differences, "text", _look(values))
            # What cannot be shown is not written either.
            sys.stdout.flush()
            differences = None
    if not values.dry_run:
        depfile = None if values.depfile is None else (values.depfile, _depfile(plans, values))
        write(
            plans,
            backup=values.backup,
            allow_refused=values.keep_going,
            sync=values.sync,
            depfile=depfile,
            new_folders=values.output_dir is not None,
            executor=executor,
            failed=failed if values.keep_going else None,
            progress=step,
            check=_check(values),
        )
    return differences


def _check(values: Values) -> Check | None:
    """What proves each new file, if that is wanted."""
    if not values.verify:
        return None
    from scpatch.proving import prove

    return partial(prove, options=library_options(values))


def _depfile(plans: Sequence[FilePlan], values: Values) -> str:
    """What the outputs were made from. Copies of a thin archive's members are left out: no rule of
    a build names them. Raises ScpatchError SCP110, UsageError for an output that is an input."""
    from scpatch.files.depfile import depfile
    from scpatch.files.members import paths_of

    outputs = [output for plan in plans for output in plan.outputs if output.source == plan.path]
    in_place = any(is_same(output.source, output.target) for output in outputs)
    if in_place or not all(plan.outputs for plan in plans):
        raise UsageError("--depfile needs an output that is another file: none is made from itself")
    members = [member for plan in plans for member in paths_of(plan.path)[1:]]
    offsets = [] if values.asm_offsets is None else [values.asm_offsets]
    lists = [path for path in values.files_froms if path != _STDOUT]
    return depfile(
        values.depfile,
        [str(output.target) for output in outputs],
        [str(plan.path) for plan in plans],
        [*members, *map(str, (*offsets, *lists))],
    )


def _differences(
    plans: Sequence[FilePlan], values: Values
) -> Iterator[tuple[str, str, ObjectDiff]]:
    """What plans change in each object, with the names before and after."""
    from scpatch.api import diff

    patterns = values.trampolines or DEFAULT_TRAMPOLINES
    context = values.context
    for path, output in ((plan.path, output) for plan in plans for output in plan.outputs):
        # A thin archive holds no code. Its members are other outputs.
        if output.source != path or not _is_thin(output.source):
            data = output.data
            for file in diff(output.source, data, context=context, trampolines=patterns):
                after = file.before.replace(str(output.source), str(output.target), 1)
                yield file.before, after, file.diff


def _is_thin(path: Path) -> bool:
    with open_input(path) as source:
        return bytes(source.data[:8]) == THIN_ARCHIVE


def _summarize(plans: Sequence[FilePlan], values: Values, *, brief: bool, written: bool) -> None:
    """Prints a line a file on stderr, in `brief` of changed and refused ones only, and notes."""
    objects = [entry for plan in plans for entry in plan.objects]
    note_intermediate(entry.name for entry in objects if entry.intermediate)
    if objects:
        names = (name for entry in objects for name in entry.scan.names)
        print_unmatched(values.trampolines, names)
    for plan in plans:
        if values.verbose:
            print_sites(plan, shown(values))
        if not brief or plan.changed or plan.refused:
            print(summary_line(plan, written=written), file=sys.stderr)
        if plan.path.name == "vmlinux.o":
            print_message(Kind.NOTE, f"{clean(str(plan.path))}: {_NOTE}", _ADVICE)
    if brief and plans:
        print(total_line(plans, written=written), file=sys.stderr)
    if values.verify and written and any(plan.outputs for plan in plans):
        print_message(Kind.NOTE, "each new file was proven and executed first")
    if values.stats:
        print_stats(plans)
