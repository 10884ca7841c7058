"""Plans objects and the members of regular archives: what a strategy does, where bytes go."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from scpatch import strategies
from scpatch.elf.additions import Additions
from scpatch.elf.layout import Layout, lay_out
from scpatch.elf.reader import ElfFile
from scpatch.errors import ScpatchError
from scpatch.files.inputs import has_intermediate, is_object, read_object
from scpatch.rewriter.model import ObjectPlan
from scpatch.rewriter.options import Lines, Options
from scpatch.sites.actions import Common
from scpatch.sites.model import Scan, Site
from scpatch.strategies import record
from scpatch.strategies.plans import Plan
from scpatch.strategies.scan import decided, scan

if TYPE_CHECKING:
    from scpatch.ar.headers import Archive, Member

Observer = Callable[[ElfFile, Scan], None]
"""Takes an object that was read, and what was found in it."""

PlanObject = Callable[[memoryview, str], tuple[ObjectPlan, Layout | None]]
"""`plan_object` with its options."""


class Members(NamedTuple):
    """What happens to members of a regular archive."""

    objects: list[ObjectPlan]
    changed: dict[int, Layout]
    """The new layouts of members, by the file offset of the member's header."""
    layout: Layout | None
    """The new layout of the archive; None if nothing changes."""


def plan_object(
    data: memoryview, name: str, options: Options, observe: Observer | None = None
) -> tuple[ObjectPlan, Layout | None]:
    """The plan of one object or linked image, and its new layout; None if nothing changes.
    `observe` is called before the object is planned.

    Raises ScpatchError as `read_object` does, for a file that another strategy was applied to
    (SCP114), for a signed module that would change (SCP105), unless its signature is to go, for an
    image whose loaded parts would have to move (SCP224), and as the strategy does.
    """
    elf = read_object(data, name, linked=_takes_images(options))
    scanned = scan(elf, options.choices)
    if observe is not None:
        observe(elf, scanned)
    plan, layout = plan_scanned(elf, scanned, options)
    if layout is not None and len(elf.data) < len(data) and not options.strip_signature:
        raise ScpatchError("SCP105", "a signed module: any change breaks its signature", file=name)
    return plan, layout


def plan_scanned(elf: ElfFile, scanned: Scan, options: Options) -> tuple[ObjectPlan, Layout | None]:
    """As `plan_object`, for an object that was read and scanned with the same options."""
    if scanned.image and not _takes_images(options):
        read_object(elf.data, elf.name)
    if options.strategy is None:
        plan = Plan("", decided(elf, scanned).sites)
    else:
        plan = _plan(elf, scanned, options, options.strategy)
    if not scanned.image:
        plan = plan._replace(sites=_with_lines(elf, plan.sites, options.lines))
    layout = lay_out(elf, plan.edits) if plan.edits else None
    if layout is not None and scanned.image:
        from scpatch.elf.image import LinkedImage

        assert isinstance(elf, LinkedImage), "`read_object` makes images of linked files"
        elf.check_layout(layout)
    intermediate = not scanned.image and has_intermediate(elf)
    return ObjectPlan(elf.name, scanned._replace(sites=plan.sites), plan, intermediate), layout


def _takes_images(options: Options) -> bool:
    """Whether a linked image will do. It has no room for a table of call sites."""
    if options.strategy is None:
        return True
    return not options.emit_sites and strategies.load(options.strategy).images


def _plan(elf: ElfFile, scanned: Scan, options: Options, name: str) -> Plan:
    """The plan by one strategy. Raises SCP114 if another one was applied that it does not undo."""
    strategy = strategies.load(name)
    if others := set(scanned.strategies) - {name} - strategy.undone(scanned):
        raise ScpatchError(
            "SCP114",
            f"already rewritten with --strategy {' and '.join(sorted(others))}",
            file=elf.name,
        )
    additions = Additions(elf)
    plan = strategy.plan(elf, scanned, additions, options.offsets)
    # A call that is left to its trampoline depends on the strategy, even if nothing else does.
    if additions or any(not isinstance(site.state, Common) for site in plan.sites):
        record.add(elf, additions, name)
    if options.emit_sites:
        from scpatch.rewriter import site_table

        plan = plan._replace(listed=site_table.add(elf, scanned, plan, additions))
    return plan._replace(edits=additions.edits())


def _with_lines(elf: ElfFile, sites: tuple[Site, ...], which: Lines) -> tuple[Site, ...]:
    """The sites with their source lines, where DWARF has them."""
    wanted = [
        (site.section, site.offset)
        for site in sites
        if which is Lines.ALL or (which is Lines.REFUSED and site.state is Common.REFUSED)
    ]
    if not wanted:
        return sites
    from scpatch.dwarf.lines import line_of

    lines = line_of(elf, wanted)
    return tuple(site._replace(line=lines.get((site.section, site.offset), "")) for site in sites)


def plan_members(
    archive: "Archive", members: "Iterable[Member]", plan_member: PlanObject
) -> Members:
    """The plans of members of a regular archive.

    Members that are not ELF files stay as they are, byte for byte. An ELF file that is not a
    ppc64 ELFv2 object is an error, as it is outside an archive, and so are bitcode and an archive
    inside an archive.
    """
    from scpatch.ar.layout import lay_out_members

    objects: list[ObjectPlan] = []
    changed: dict[int, Layout] = {}
    for member in members:
        content = archive.content(member)
        name = f"{archive.name}({member.label})"
        if not is_object(content, name):
            continue
        plan, layout = plan_member(content, name)
        objects.append(plan)
        if layout is not None:
            changed[member.header] = layout
    return Members(objects, changed, lay_out_members(archive, changed) if changed else None)
