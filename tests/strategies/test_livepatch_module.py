"""Livepatch modules: the calls in `.klp.rela.*` tables are the kernel's to make right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from scpatch.errors import ScpatchError
from scpatch.rewriter import plan_file
from scpatch.verifier.proof import prove
from tests import livepatch_module as klp
from tests.elfwriter import LD_R2, NOP, STD_R2, B, Elf, build
from tests.proof_files import only_word
from tests.tools import code, options, relocations, rewritten, scan_file


def written(folder: Path, elf: Elf, name: str = "klp.ko") -> Path:
    path = folder / name
    path.write_bytes(build(elf))
    return path


@pytest.mark.parametrize("undefined", ["auto", "rewrite", "skip"])
def test_its_calls_are_the_loaders(tmp_path: Path, undefined: str) -> None:
    path = written(tmp_path, klp.module())
    result = {site.offset: site for site in scan_file(path, undefined=undefined).sites}
    assert result.keys() == {klp.BY_LOADER, klp.BY_LIVEPATCH, klp.HERE}
    assert result[klp.BY_LIVEPATCH].state == "loader"
    assert result[klp.BY_LIVEPATCH].trampoline == klp.SCT
    assert result[klp.HERE].state in ("rewrite", "saved")
    new = rewritten(path, undefined=undefined)
    assert code(new)[klp.BY_LIVEPATCH // 4 + 1] == NOP
    assert code(new)[klp.HERE // 4 + 1] == LD_R2
    # The livepatch's own relocations are as they were, the stub's is in the other table.
    before, after = relocations(path), relocations(new)
    kept = [relocation for relocation in before if relocation.table.startswith(".klp")]
    assert kept == [relocation for relocation in after if relocation.table.startswith(".klp")]
    assert len(after) > len(before)
    proof = prove(path, new)
    assert proof.errors == ()
    assert [site.right for site in proof.sites] == [True] * 3
    assert next(site for site in proof.sites if site.offset == klp.BY_LIVEPATCH).state == "loader"


def test_a_word_that_the_livepatch_changes_is_no_nop(tmp_path: Path) -> None:
    """A relocation behind the call: the kernel would overwrite the restore."""
    late = (".klp.rela.vmlinux..text", klp.rela(klp.HERE + 4, 4))
    path = written(tmp_path, klp.module(tables=(late,)))
    (site,) = [site for site in scan_file(path).sites if site.offset == klp.HERE]
    assert (site.state, site.code) == ("refused", "SCP206")
    (judged,) = [site for site in prove(path, path).sites if site.offset == klp.HERE]
    assert not judged.right
    done = written(tmp_path, only_word(klp.module(tables=(late,)), klp.HERE + 4, LD_R2), "done.ko")
    (judged,) = [site for site in prove(done, done).sites if site.offset == klp.HERE]
    assert "a relocation applies" in judged.why or "no save was found" in judged.why


def test_without_a_table_of_its_own(tmp_path: Path) -> None:
    """All relocations of a section can be the livepatch's."""
    elf = klp.module()
    text, *rest = elf.sections
    bare = replace(elf, sections=[replace(text, relocations=None), *rest])
    fixed = replace(
        bare,
        sections=[
            replace(section, info=1) if section.name.startswith(".klp") else section
            for section in bare.sections
        ],
    )
    path = written(tmp_path, fixed)
    states = {site.offset: site.state for site in scan_file(path).sites}
    assert states[klp.BY_LIVEPATCH] == "loader"
    assert not plan_file(path, options()).outputs
    assert prove(path, path).errors == ()


@pytest.mark.parametrize("undefined", ["auto", "rewrite"])
def test_another_symbol_in_a_livepatch_table(tmp_path: Path, undefined: str) -> None:
    """The kernel does not load such a module (klp_resolve_symbols)."""
    wrong = (".klp.rela.vmlinux..text", klp.rela(klp.BY_LIVEPATCH, 3))
    path = written(tmp_path, klp.module(tables=(wrong,)))
    with pytest.raises(ScpatchError, match="not SHN_LIVEPATCH"):
        plan_file(path, options(undefined=undefined))
    assert "another kind of symbol" in prove(path, path).errors[0]


CHANGES = {
    "restore": {klp.BY_LIVEPATCH + 4: LD_R2},
    "save": {klp.BY_LIVEPATCH - 4: STD_R2, klp.BY_LIVEPATCH + 4: LD_R2},
    "branch": {klp.BY_LIVEPATCH: B},
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_call_of_the_livepatch_is_not_proven(tmp_path: Path, name: str) -> None:
    elf = klp.module()
    path = written(tmp_path, elf)
    for offset, word in CHANGES[name].items():
        elf = only_word(elf, offset, word)
    assert prove(path, written(tmp_path, elf, "wrong.ko")).errors


def test_appended_to_a_livepatch_table(tmp_path: Path) -> None:
    path = written(tmp_path, klp.module())
    more = klp.rela(klp.BY_LIVEPATCH, 4) + klp.rela(klp.BY_LIVEPATCH + 4, 4)
    tables = (
        (".klp.rela.vmlinux..text", more),
        (".klp.rela.ext4..text", klp.rela(klp.PLAIN, 5)),
    )
    wrong = written(tmp_path, klp.module(tables=tables), "wrong.ko")
    assert any("header of section" in error for error in prove(path, wrong).errors)


@pytest.mark.parametrize("word", [LD_R2, 0x4DEF7B82, 0x38630000])
def test_without_a_nop_the_kernel_would_not_load_it(tmp_path: Path, word: int) -> None:
    """Not even with a thunk: that would need a relocation in the livepatch's table."""
    path = written(tmp_path, only_word(klp.module(), klp.BY_LIVEPATCH + 4, word))
    (site,) = [
        site
        for site in scan_file(path, undefined="rewrite", no_nop="thunk").sites
        if site.offset == klp.BY_LIVEPATCH
    ]
    assert (site.state, site.code) == ("refused", "SCP213")
    (judged,) = [site for site in prove(path, path).sites if site.offset == klp.BY_LIVEPATCH]
    assert not judged.right
