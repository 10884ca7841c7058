"""`scpatch rewrite`: plan all files, say what is refused, write all or nothing.

`options` says what goes together and where new files go, `writing` writes them, `summary` tells.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from scpatch import batch
from scpatch.commands.rewrite.options import is_stream, read_options, target_of
from scpatch.commands.rewrite.summary import report, summarize
from scpatch.commands.rewrite.writing import write_all, write_stream
from scpatch.errors import Exit, RefusedError, ScpatchError
from scpatch.options import Values, selection
from scpatch.report.errors import Kind, print_errors, print_message
from scpatch.report.messages import note_left_out, print_refusals
from scpatch.report.progress import progress_bar
from scpatch.rewriter import plan_file, without_repeats

if TYPE_CHECKING:
    from scpatch.report.diff import DiffReport


def run(values: Values) -> Exit:
    """Rewrites the files; returns the exit code of the worst thing that happened.

    Raises UsageError for options that do not go together.
    """
    options = read_options(values)
    files = selection(values, output_dir=values.output_dir)
    stream = is_stream(values, files)
    items = [(file.source, options, target_of(file, values)) for file in files.files]
    failed: list[ScpatchError] = []
    differences: DiffReport | None = None
    with (
        batch.workers(values.jobs, len(items), dask=values.dask) as executor,
        progress_bar(len(items), "planning", "writing", quiet=values.quiet) as step,
    ):
        work = partial(batch.attempt, plan_file)
        sorted_out = files.sort_out(batch.run(work, items, executor, progress=step))
        plans, clashes = without_repeats(sorted_out.results)
        errors = [*sorted_out.errors, *clashes]
        print_errors(errors)
        print_refusals(plans)
        writing = values.keep_going or not errors
        try:
            if writing and stream:
                for plan in plans:
                    write_stream(plan, files.files[0].source, values)
            elif writing:
                differences = write_all(plans, values, executor, failed, step)
        except RefusedError:
            writing = False
    print_errors(failed)
    written = writing and not values.dry_run
    lost = [error.file for error in failed]
    done = [plan for plan in plans if not plan.writes_one_of(lost)]
    report(done, values, differences, [*errors, *failed], brief=files.many, written=written)
    if not values.quiet:
        note_left_out(files.links, sorted_out.foreign, files.outputs)
        summarize(done, [*errors, *failed], values, brief=files.many, written=written)
    if not writing:
        rest = any(plan.outputs for plan in plans)
        advice = "; --keep-going rewrites the rest" if rest else ""
        print_message(Kind.NOTE, f"nothing was written{advice}")
    if errors or failed:
        return Exit.ERROR
    return Exit.REFUSED if any(plan.refused for plan in plans) else Exit.OK
