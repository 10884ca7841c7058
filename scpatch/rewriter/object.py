"""Plans one object: what a strategy does to it, and where its bytes go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scpatch import strategies
from scpatch.elf.additions import Additions
from scpatch.elf.constants import ET_REL
from scpatch.elf.layout import Layout, lay_out
from scpatch.elf.reader import ElfFile
from scpatch.errors import ScpatchError
from scpatch.files.inputs import has_intermediate, read_object
from scpatch.rewriter.model import ObjectPlan
from scpatch.rewriter.options import Lines, Options
from scpatch.sites import record
from scpatch.sites.choices import Choices
from scpatch.sites.classify import scan as scan_object
from scpatch.sites.model import Plan, Scan, Site, State

if TYPE_CHECKING:
    from scpatch.elf.image import LinkedImage


def plan_object(data: memoryview, name: str, options: Options) -> tuple[ObjectPlan, Layout | None]:
    """The plan of one object or linked image, and its new layout; None if nothing changes.

    Raises ScpatchError as `read_object` does, for a file that another strategy was applied to
    (SCP114), for an image whose loaded parts would have to move (SCP224), and as the strategy does.
    """
    elf = read_object(data, name, linked=_takes_images(options))
    scan = _scan(elf, options.choices)
    plan = Plan("", scan.sites)
    if options.strategy is not None:
        plan = _plan(elf, scan, options, options.strategy)
    if not scan.image:
        plan = plan._replace(sites=_with_lines(elf, plan.sites, options.lines))
    layout = lay_out(elf, plan.edits) if plan.edits else None
    if layout is not None and scan.image:
        _as_image(elf).check_layout(layout)
    intermediate = not scan.image and has_intermediate(elf)
    return ObjectPlan(name, scan._replace(sites=plan.sites), plan, intermediate), layout


def _takes_images(options: Options) -> bool:
    """Whether a linked image will do. It has no room for a table of call sites."""
    if options.strategy is None:
        return True
    return not options.emit_sites and strategies.takes_images(options.strategy)


def _scan(elf: ElfFile, choices: Choices) -> Scan:
    if elf.header.e_type == ET_REL:
        return scan_object(elf, choices)
    from scpatch.sites.image import scan_image

    return scan_image(_as_image(elf), choices)


def _as_image(elf: ElfFile) -> LinkedImage:
    from scpatch.elf.image import LinkedImage

    assert isinstance(elf, LinkedImage), "`read_object` makes images of linked files"
    return elf


def _plan(elf: ElfFile, scan: Scan, options: Options, name: str) -> Plan:
    """The plan by one strategy. Raises SCP114 if another one was applied that it does not undo."""
    strategy = strategies.load(name)
    undone = strategies.replaced(strategy, options.of_strategy)
    if others := set(scan.strategies) - {name} - undone:
        raise ScpatchError(
            "SCP114", f"was rewritten by strategy {' and '.join(sorted(others))}", file=elf.name
        )
    additions = Additions(elf)
    plan = strategy.plan(elf, scan, additions, options.of_strategy)
    # A call that is left to its trampoline depends on the strategy, even if nothing else does.
    if additions or any(site.state is State.TRAMPOLINE for site in plan.sites):
        record.add(elf, additions, name)
    if options.emit_sites:
        from scpatch.rewriter import site_table

        plan = plan._replace(listed=site_table.add(elf, scan, plan, additions))
    return plan._replace(edits=additions.edits())


def _with_lines(elf: ElfFile, sites: tuple[Site, ...], which: Lines) -> tuple[Site, ...]:
    """The sites with their source lines, where DWARF has them."""
    wanted = [
        (site.section, site.offset)
        for site in sites
        if which is Lines.ALL or (which is Lines.REFUSED and site.state is State.REFUSED)
    ]
    if not wanted:
        return sites
    from scpatch.dwarf.lines import line_of

    lines = line_of(elf, wanted)
    return tuple(site._replace(line=lines.get((site.section, site.offset), "")) for site in sites)
