"""The two lists of facts about Linux, compared with each other and with a real kernel."""

from __future__ import annotations

from pathlib import Path

from scpatch.linux import patched
from scpatch.saved import labels
from scpatch.verifier.objects import changes, patches
from scpatch.verifier.search import entries, object_entries
from tests.kernel_sections import fixups, unknown

LISTED = Path(__file__).with_name("data") / "vmlinux-sections.txt"


def listed() -> set[str]:
    lines = LISTED.read_text(encoding="ascii").splitlines()
    return {line for line in lines if not line.startswith("#")}


def test_rewriter_and_proof_know_the_same_tables() -> None:
    assert set(object_entries.MARKS) == labels.MARKS
    assert entries.PAIRS == labels.PAIRS
    assert object_entries.DISCARDED == labels.DISCARDED
    assert object_entries.RESTARTS == labels.RESTARTS
    assert set(changes.WORDS) == patched.WORDS


def test_rewriter_and_proof_know_the_same_patches() -> None:
    assert set(patches.SECTIONS) == patched.FEATURES
    assert patches.NOPS == (patched.FLUSHES,)
    assert {name: size // 4 for name, size in patches.BARRIERS.items()} == patched.BARRIERS


def test_the_sections_of_a_real_kernel_are_known() -> None:
    sections = listed()
    assert len(sections) > 60
    assert unknown(sections) == set()
    assert fixups(sections) == set()


def test_most_tables_that_are_known_are_in_a_real_kernel() -> None:
    """The others belong to other processors, to modules, or to objects before their link."""
    tables = labels.MARKS | labels.PAIRS.keys() | {labels.RESTARTS}
    assert tables - listed() == {
        "__btb_flush_fixup",
        "__fw_ftr_fixup",
        "__jump_table",
        "__patchable_function_entries",
        ".eh_frame",
        ".static_call_sites",
    }


def test_a_new_section_is_noticed() -> None:
    assert unknown({"__new_table", ".text.hot", ".data..percpu"}) == {"__new_table"}
    assert fixups({"__new_fixup", "__ftr_fixup"}) == {"__new_fixup"}
