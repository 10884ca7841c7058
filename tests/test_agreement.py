"""The rewriter and the proof say the same of every call, and of what a rewrite made of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from scpatch.advisor import advise
from scpatch.linux.offsets import Offsets
from scpatch.rewriter import Options, plan_file, write
from scpatch.sites.actions import Common
from scpatch.sites.model import Site
from scpatch.strategies.callsite import Rewrite
from scpatch.strategies.livepatch_stack import Kept
from scpatch.strategies.paca import Paca
from scpatch.verifier.proof import prove
from scpatch.verifier.types import Proof, SiteProof
from tests import elfwriter as ew
from tests.awkward import PLAIN, SOURCES
from tests.sites.support import key
from tests.tools import assemble, scan_file

OFFSETS = Offsets(paca_toc=16, paca_thread_info=2504, livepatch_sp=120)
SAME = {
    Rewrite.REWRITE: {"stub"},
    Rewrite.SAVED: {"saved"},
    Rewrite.THUNK: {"thunk"},
    Paca.PACA: {"paca"},
    Kept.TRAMPOLINE: {"trampoline", "elsewhere"},
    # The rewriter leaves a call alone that has a restore, whoever saves r2.
    Common.DONE: {"done", "restored"},
    Common.LINKER: {"linker"},
    Common.LOADER: {"loader"},
    Common.NOTOC: {"notoc"},
    Common.REFUSED: {"left"},
}
CHOICES = {
    "by default": Options(offsets=OFFSETS),
    "for a kernel": Options(undefined="rewrite", no_nop="thunk", hoist="kernel", offsets=OFFSETS),
}


def differences(sites: Sequence[Site], proven: Sequence[SiteProof]) -> list[str]:
    """Where the two do not say the same."""
    ours = {(site.section, site.offset): site for site in sites}
    theirs = {(site.section, site.offset): site for site in proven}
    differences = [f"only one of them sees {place}" for place in ours.keys() ^ theirs.keys()]
    return differences + [
        f"{ours[place].place}: {ours[place].state} {ours[place].code}, {theirs[place].state}: "
        f"{theirs[place].why}"
        for place in ours.keys() & theirs.keys()
        if theirs[place].state not in SAME[ours[place].state]
        and not _is_left_to_the_link(ours[place], theirs[place])
    ]


def _is_left_to_the_link(site: Site, proof: SiteProof) -> bool:
    """Of an undefined trampoline the object does not say whether it is marked where it is defined:
    only the linked image shows it (docs/strategies.md)."""
    undefined = site.state is Common.LINKER and not proof.trampoline_section
    return undefined and proof.state == "left"


def agreed(path: Path, options: Options, strategy: str = "callsite") -> Proof:
    """Rewrites an object, whatever is refused, and holds plan and proof against each other."""
    options = options._replace(strategy=strategy)
    after = path.with_name("after.o")
    plan = plan_file(path, options, after)
    write([plan], allow_refused=True)
    if not after.exists():
        after.write_bytes(path.read_bytes())
    proof = prove(path, after, for_kernel=options.hoist == "kernel")
    assert proof.errors == ()
    (planned,) = plan.objects
    assert differences(planned.plan.sites, proof.sites) == []
    return proof


@pytest.mark.parametrize("options", CHOICES.values(), ids=CHOICES)
@pytest.mark.parametrize("module", [False, True], ids=["object", "module"])
@pytest.mark.parametrize("strategy", ["callsite", "paca", "livepatch-stack", "localentry"])
@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_what_is_planned_is_proven(
    tmp_path: Path, source: str, strategy: str, module: bool, options: Options
) -> None:
    body = source
    if strategy == "livepatch-stack":
        body = source.replace("b target", "mtctr 12\n bctr")
    if module and strategy in ("callsite", "livepatch-stack"):
        body += '.section .gnu.linkonce.this_module,"aw"\n.quad 0\n'
    agreed(assemble(tmp_path, body), options, strategy)


@pytest.mark.parametrize("options", CHOICES.values(), ids=CHOICES)
@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_a_second_look(tmp_path: Path, source: str, options: Options) -> None:
    """At what the rewriter has written itself: nothing is left to do but what was refused."""
    path = assemble(tmp_path, source)
    agreed(path, options)
    after = path.with_name("after.o")
    again = prove(after, after)
    sites = scan_file(after, **options._asdict()).sites
    assert again.errors == ()
    assert differences(sites, again.sites) == []
    assert {site.state for site in sites}.isdisjoint(
        {Rewrite.REWRITE, Rewrite.SAVED, Rewrite.THUNK}
    )


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_with_a_table_of_call_sites(tmp_path: Path, source: str) -> None:
    """The proof finds in it what the rewriter has listed, and a second run changes nothing."""
    body = source + "".join(key(name) for name in ("x", "y", "z", "w", "x@@V1", "%40"))
    path, after = assemble(tmp_path, body), tmp_path / "after.o"
    options = CHOICES["for a kernel"]._replace(emit_sites=True)
    write([plan_file(path, options, after)], allow_refused=True)
    assert prove(path, after, for_kernel=True).errors == ()
    again = plan_file(after, options)
    assert not again.objects[0].plan.edits


RESERVED = (0xFF00, 0xFF1F, 0xFF20, 0xFF3F, ew.SHN_ABS, ew.SHN_COMMON, 0xFFFE)


@pytest.mark.parametrize("module", [False, True])
@pytest.mark.parametrize("strategy", ["callsite", "paca", "localentry", "livepatch-stack"])
@pytest.mark.parametrize("shndx", RESERVED, ids=hex)
def test_reserved_section_numbers(tmp_path: Path, shndx: int, strategy: str, module: bool) -> None:
    """SHN_ABS, SHN_COMMON, SHN_LIVEPATCH and the like are no indices of sections."""
    if module and strategy in ("paca", "localentry"):
        return
    path = tmp_path / "x.o"
    path.write_bytes(reserved(shndx, module=module))
    for options in CHOICES.values():
        agreed(path, options, strategy)


@pytest.mark.parametrize("module", [False, True])
@pytest.mark.parametrize("shndx", RESERVED, ids=hex)
def test_reserved_section_numbers_everywhere(tmp_path: Path, shndx: int, module: bool) -> None:
    """`advise` and `--emit-sites` as well; of the key too."""
    path, after = tmp_path / "x.o", tmp_path / "after.o"
    for key_section in (None, shndx):
        path.write_bytes(reserved(shndx, module=module, key=key_section))
        assert advise(path, Options(None), image=False).sites == 1
        plan = plan_file(path, Options("callsite", emit_sites=True), after)
        write([plan], allow_refused=True)
        if after.exists():
            assert prove(path, after).errors == ()


def reserved(shndx: int, *, module: bool, key: int | None = None) -> bytes:
    call = ew.Relocation(offset=12, type=ew.R_PPC64_REL24, symbol="__SCT__x")
    code = ew.words(0x7C0802A6, 0xF8010010, 0xF821FFC1, ew.BL, ew.NOP, ew.BLR)
    text = ew.Section(
        name=".text",
        flags=ew.SHF_ALLOC | ew.SHF_EXECINSTR,
        addralign=4,
        data=code,
        relocations=[call],
    )
    other = ew.Section(name=".gnu.linkonce.this_module", flags=ew.SHF_ALLOC, data=bytes(8))
    symbols = [
        ew.Symbol(name="f", type=ew.STT_FUNC, size=len(code), bind=ew.STB_GLOBAL, section=".text"),
        ew.Symbol(name="__SCT__x", bind=ew.STB_GLOBAL, st_shndx=shndx, value=0x100),
        ew.Symbol(name="__SCK__x", bind=ew.STB_GLOBAL, st_shndx=key),
    ]
    return ew.build(ew.Elf(sections=[text, *[other] * module], symbols=symbols))


def test_the_sources_are_of_use(tmp_path: Path) -> None:
    """Each has a call that both see."""
    for name, source in SOURCES.items():
        assert scan_file(assemble(tmp_path, source)).sites, name
    assert prove(path := assemble(tmp_path, PLAIN), path).sites
