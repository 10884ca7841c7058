"""Archives and members that cannot be read or written: one message, and nothing has changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scpatch.errors import ScpatchError
from scpatch.files import filling, output
from scpatch.rewriter import Options, plan_file, write
from scpatch.verifier.files import verify_files
from tests import archives
from tests.archives import AR, header, make, objects, tree
from tests.tools import FIXTURES, rewrite, run

THIN = b"!<thin>\n"


def code_of(path: Path, target: Path | None = None) -> tuple[str, str, str]:
    """Code, file and message of the error; nothing may have been written."""
    before = tree(path.parent)
    with pytest.raises(ScpatchError) as caught:
        write([plan_file(path, Options(), target)])
    assert tree(path.parent) == before
    return caught.value.code, caught.value.file.removeprefix(str(path)), caught.value.message


def test_a_member_of_a_foreign_kind_is_named(tmp_path: Path) -> None:
    for fixture, code in (
        ("x86_64.o", "SCP102"),
        ("ppc64-be.o", "SCP103"),
        ("elfv1.o", "SCP103"),
        ("linked.so", "SCP104"),
        ("module-signed.ko", "SCP105"),
    ):
        objects(tmp_path, fixture, "sites.o")
        for options in ("rc", "rcT"):
            path = tmp_path / f"{fixture}.{options}.a"
            make(path, "sites.o", fixture, options=options)
            assert code_of(path)[:2] == (code, f"({fixture})")


def test_a_damaged_member_is_named(tmp_path: Path) -> None:
    (file,) = objects(tmp_path, "sites.o")
    file.write_bytes(file.read_bytes()[:-1])
    path = make(tmp_path / "x.a", "sites.o", "sites.o", options="qc")
    assert code_of(path)[:2] == ("SCP107", "(sites.o)")


def test_a_thin_member_that_is_not_there(tmp_path: Path) -> None:
    (file,) = objects(tmp_path, "sites.o")
    path = archives.thin(tmp_path, "sites.o")
    file.unlink()
    code, name, message = code_of(path)
    assert (code, name) == ("SCP109", "(sites.o)")
    assert message == f"cannot read {file}: No such file or directory"


def test_a_thin_member_that_changed_since(tmp_path: Path) -> None:
    (file,) = objects(tmp_path, "sites.o")
    size = file.stat().st_size
    path = archives.thin(tmp_path, "sites.o")
    with file.open("ab") as end:
        end.write(b"more")
    code, name, message = code_of(path)
    assert (code, name) == ("SCP108", "(sites.o)")
    assert message == f"the member has {size + 4} bytes, the archive says {size}"
    # What the hint says is right.
    run(AR, "rcsT", path.name, "sites.o", cwd=tmp_path)
    assert f"{size + 4}" in run(AR, "tv", path).stdout
    file.write_bytes((FIXTURES / "sites.o").read_bytes())
    assert code_of(path)[0] == "SCP108"


def test_a_thin_member_that_is_a_directory(tmp_path: Path) -> None:
    (tmp_path / "sites.o").mkdir()
    size = (tmp_path / "sites.o").stat().st_size
    path = tmp_path / "x.a"
    path.write_bytes(THIN + header(b"//", 10) + b"sites.o/\n\n" + header(b"/0", size))
    code, name, message = code_of(path)
    assert (code, name) == ("SCP109", "(sites.o)")
    assert "it is a directory" in message


def test_a_name_with_nul_is_no_file(tmp_path: Path) -> None:
    path = tmp_path / "x.a"
    path.write_bytes(THIN + header(b"//", 4) + b"a\0/\n" + header(b"/0", 4))
    assert code_of(path)[0] == "SCP108"


def test_a_regular_archive_that_changed_under_a_thin_one(tmp_path: Path) -> None:
    path, inner = archives.nested(tmp_path)
    old = inner.read_bytes()
    rewrite(inner)
    code, name, message = code_of(path)
    assert (code, name[: name.index(":")]) == ("SCP108", "(lib/inner.a")
    assert "the archive says 6168" in message
    # Without its symbol table, everything lies further in front.
    inner.write_bytes(old[:8] + old[68 + int(old[56:66]) :])
    assert code_of(path)[:2] == ("SCP108", "(lib/inner.a)")
    assert "any more" in code_of(path)[2]
    inner.write_bytes(b"text")
    assert "no regular archive" in code_of(path)[2]
    inner.unlink()
    assert code_of(path)[0] == "SCP109"


def test_a_damaged_archive_is_an_error(tmp_path: Path) -> None:
    path = make(tmp_path / "x.a", *(entry.name for entry in objects(tmp_path, "sites.o")))
    path.write_bytes(path.read_bytes()[:-2])
    assert code_of(path)[:2] == ("SCP108", "")


@pytest.mark.parametrize("missing", [False, True])
def test_a_failure_leaves_no_directory(tmp_path: Path, missing: bool) -> None:
    """The copies are staged first; then the archive's own place turns out to be a directory."""
    objects(tmp_path, "sites.o")
    path = archives.thin(tmp_path, "sites.o")
    target = tmp_path / "new.a"
    if missing:
        target = tmp_path / "nowhere" / "new.a"
    else:
        target.mkdir()
    plan = plan_file(path, Options(), target)
    with pytest.raises(ScpatchError, match="cannot write"):
        write([plan])
    assert not (tmp_path / "new.a.members").exists()
    assert sorted(tree(tmp_path)) == ["sites.o", "x.a"]


def test_a_directory_that_was_there_stays(tmp_path: Path) -> None:
    objects(tmp_path, "sites.o")
    path = archives.thin(tmp_path, "sites.o")
    (tmp_path / "new.a.members").mkdir()
    (tmp_path / "new.a").mkdir()
    assert code_of(path, tmp_path / "new.a")[0] == "SCP110"
    assert (tmp_path / "new.a.members").is_dir()


def test_a_file_in_the_place_of_the_directory(tmp_path: Path) -> None:
    objects(tmp_path, "sites.o")
    path = archives.thin(tmp_path, "sites.o")
    (tmp_path / "new.a.members").write_text("mine")
    assert code_of(path, tmp_path / "new.a")[0] == "SCP110"


@pytest.mark.parametrize("target", [None, "new.a"])
@pytest.mark.parametrize("failing", [1, 2, 3])
def test_all_is_staged_before_anything_is_put_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int, target: str | None
) -> None:
    """Stopped while it writes the first, second or third file, it leaves everything as it was."""
    objects(tmp_path, "sites.o", "calls-gcc.o")
    path = archives.thin(tmp_path, "sites.o", "calls-gcc.o")
    before, plan = tree(tmp_path), plan_file(path, Options(), tmp_path / target if target else None)
    assert len(plan.outputs) == 3
    calls, real = 0, filling.fill

    def fill(*arguments: object, sync: bool) -> None:
        nonlocal calls
        calls += 1
        real(*arguments, sync=sync)  # type: ignore[arg-type]
        if calls == failing:
            raise KeyboardInterrupt

    monkeypatch.setattr(output, "fill", fill)
    with pytest.raises(KeyboardInterrupt):
        write([plan])
    assert calls == failing
    assert tree(tmp_path) == before
    assert not (tmp_path / "new.a.members").exists()


@pytest.mark.parametrize("which", ["sites.o", "x.a"])
def test_a_file_that_changes_after_the_plan(tmp_path: Path, which: str) -> None:
    objects(tmp_path, "sites.o")
    path = archives.thin(tmp_path, "sites.o")
    plan = plan_file(path, Options())
    os.utime(tmp_path / which, ns=(0, 0))
    before = tree(tmp_path)
    with pytest.raises(ScpatchError) as caught:
        write([plan])
    assert caught.value.code == "SCP112"
    assert tree(tmp_path) == before


@pytest.mark.parametrize("kind", ["regular", "llvm-thin"])
def test_an_archive_inside_an_archive(tmp_path: Path, kind: str) -> None:
    """No linker takes one: what is in it would be passed over without a word."""
    objects(tmp_path, "sites.o")
    inner = make(tmp_path / "in.a", "sites.o")
    options, ar = ("rcS", archives.AR) if kind == "regular" else ("rcST", archives.LLVM_AR)
    path = make(tmp_path / "x.a", inner.name, options=options, ar=(ar,))
    assert archives.names(path) == ["in.a"]
    with pytest.raises(ScpatchError) as caught:
        plan_file(path, Options())
    assert caught.value.code == "SCP119"
    assert caught.value.file == f"{path}(in.a)"
    (verdict,) = verify_files(path, path)
    assert verdict.proof.errors == ("an archive inside an archive.",)
    assert not verdict.proven
