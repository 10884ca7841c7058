"""The link knows the functions of all objects: the nop after a call of one holds the save."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scpatch.verifier.files import verify_link
from tests import archives
from tests.kbuild.support import (
    COPIES,
    LINKERS,
    PLAIN,
    TRAMPOLINE,
    image_arguments,
    link,
    make_tree,
    stubs,
)
from tests.kbuild.test_incremental import archive, copies, linked_alike, summary
from tests.tools import assemble

USER = """
        FRAME {name}
        CALL callee
        CALL __SCT__work
        LEAVE {name}
"""
FORMS = {
    "strong": PLAIN.format(name="callee"),
    "weak": ".weak callee\n.type callee, @function\ncallee: blr\n .size callee, 4\n",
    "marked": "FUNC callee\n .localentry callee, 1\n blr\n END callee\n",
    "no function": ".globl callee\ncallee: blr\n",
}
"""Of these only a strong function lets its callers use the nop."""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """`one` calls `callee` of three.o, then the trampoline."""
    root = make_tree(tmp_path / "tree")
    assemble(root / "init", USER.format(name="one"), "one.o")
    assemble(root / "init", TRAMPOLINE, "two.o")
    define(root, "strong")
    return root


def define(tree: Path, form: str) -> None:
    assemble(tree / "init", FORMS[form], "three.o")
    archive(tree)


def library(tree: Path, source: str) -> None:
    """Makes lib.a, whose member helper.o is linked if somebody needs it."""
    assemble(tree / "lib", source, "helper.o")
    (tree / "lib/lib.a").unlink()
    archives.make(tree / "lib/lib.a", "helper.o", options="rcsT")


def state(tree: Path, image: str = "vmlinux") -> str:
    """Why r2 is right after the call in `one`, by the image."""
    verdict = verify_link([tree / "vmlinux.a"], tree / image)
    assert not verdict.proof.errors
    return {site.function: str(site.state) for site in verdict.proof.sites}["one"]


@pytest.mark.parametrize("linker", ["bfd", "lld"])
@pytest.mark.parametrize("form", FORMS)
def test_a_call_of_another_member_holds_the_save(tree: Path, form: str, linker: str) -> None:
    define(tree, form)
    link(tree, image_arguments(linker=linker), linker=LINKERS[linker])
    assert state(tree) == ("saved" if form == "strong" else "stub")
    assert len(stubs(tree / "vmlinux")) == (form != "strong")


@pytest.mark.parametrize("linker", ["bfd", "lld"])
def test_a_call_of_a_library(tree: Path, linker: str) -> None:
    archive(tree, ("one", "two"))
    library(tree, FORMS["strong"])
    link(tree, image_arguments(linker=linker), linker=LINKERS[linker])
    assert state(tree) == "saved"


@pytest.mark.parametrize("kind", ["an object", "a regular archive"])
def test_a_call_of_another_input(tree: Path, kind: str) -> None:
    archive(tree, ("one", "two"))
    more = "init/three.o"
    if kind != "an object":
        more = "more.a"
        archives.make(tree / more, "init/three.o", options="rcs")
    link(tree, [*image_arguments(), more])
    assert state(tree) == "saved"


def test_a_strong_function_in_a_library_may_not_be_linked(tree: Path) -> None:
    """The weak one is there already. But both preserve r2."""
    define(tree, "weak")
    library(tree, FORMS["strong"])
    link(tree)
    assert state(tree) == "saved"
    library(tree, FORMS["marked"])
    link(tree)
    assert state(tree) == "stub"


@pytest.mark.parametrize("options", [["--wrap=callee"], ["--defsym", "callee=__SCT__work"]])
def test_an_option_may_give_the_name_to_another_function(tree: Path, options: list[str]) -> None:
    source = FORMS["strong"] + PLAIN.format(name="__wrap_callee")
    assemble(tree / "init", source, "three.o")
    archive(tree)
    link(tree, [*image_arguments(), *options])
    assert "r2save.__SCT__work" in "".join(stubs(tree / "vmlinux"))


def test_hoist_never_leaves_these_nops_alone(tree: Path) -> None:
    link(tree, options=["--hoist=never"])
    assert state(tree) == "stub"


def test_a_prelinked_image_uses_the_functions_of_the_libraries(tree: Path) -> None:
    archive(tree, ("one", "two"))
    library(tree, FORMS["strong"])
    link(tree, options=["--prelink"])
    assert state(tree) == "saved"


@pytest.mark.parametrize("form", [form for form in FORMS if form != "strong"])
def test_the_callee_changes_and_only_its_callers_are_planned_again(tree: Path, form: str) -> None:
    link(tree)
    for now, expected in ((form, "stub"), ("strong", "saved")):
        define(tree, now)
        assert summary(tree).endswith("; 1 other members are as before")
        assert state(tree) == expected
        assert linked_alike(tree)


def test_a_new_version_of_the_callee_leaves_its_callers_alone(tree: Path) -> None:
    link(tree)
    before = copies(tree)
    assemble(tree / "init", "nop\n" + FORMS["strong"], "three.o")
    archive(tree)
    assert summary(tree).endswith("; 2 other members are as before")
    assert copies(tree) == before
    assert linked_alike(tree)


def test_the_callee_moves_to_a_library_and_back(tree: Path) -> None:
    link(tree)
    before = copies(tree)
    library(tree, FORMS["strong"])
    archive(tree, ("one", "two"))
    link(tree)
    assert state(tree) == "saved"
    assert copies(tree) == before
    library(tree, FORMS["marked"])
    assert "SCPATCH vmlinux.a" in link(tree).stdout
    assert state(tree) == "stub"
    assert linked_alike(tree)
    define(tree, "strong")
    library(tree, PLAIN.format(name="helper"))
    link(tree)
    assert state(tree) == "saved"
    assert linked_alike(tree)


def test_later_passes_add_objects_and_use_the_same_copies(tree: Path) -> None:
    symbols = ".tmp_vmlinux.kallsyms1.o"
    assemble(tree, ".globl kallsyms_names\n.data\nkallsyms_names: .quad 0\n", symbols)
    link(tree, image_arguments(".tmp_vmlinux.kallsyms1"))
    before = copies(tree)
    assert link(tree, [*image_arguments(), symbols]).stdout == ""
    assert copies(tree) == before
    assert state(tree) == "saved"


@pytest.mark.parametrize("content", ["", "[1]", '{"key": ', '{"key": "", "files": 5}'])
def test_the_record_of_functions_is_useless(tree: Path, content: str) -> None:
    link(tree)
    (tree / COPIES / ".tmp_functions.json").write_text(content)
    define(tree, "weak")
    link(tree)
    assert state(tree) == "stub"


def test_the_record_says_of_each_file_what_it_defines(tree: Path) -> None:
    """Files that have not changed are not read: this one says that nothing is defined."""
    link(tree)
    path = tree / COPIES / ".tmp_functions.json"
    record = json.loads(path.read_bytes())
    assert record["files"]["init/three.o"][1:] == ["callee", ""]
    assert record["files"]["init/two.o"][1:] == ["", "__SCT__work"]
    record["files"]["init/three.o"][1] = ""
    path.write_text(json.dumps(record))
    link(tree)
    assert state(tree) == "stub"
