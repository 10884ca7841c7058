"""The library, used as a program that imports `scpatch` uses it."""

from __future__ import annotations

import inspect
import os
import pydoc
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import scpatch
from tests.tools import CROSS, FIXTURES, run

SITES = FIXTURES / "sites.o"
REFUSED = FIXTURES / "refused.o"
ARCHIVE = FIXTURES / "members.a"
BAD_OFFSETS = scpatch.Offsets(paca_toc="16")  # type: ignore[arg-type]


@pytest.fixture
def sites(tmp_path: Path) -> Path:
    return Path(shutil.copy(SITES, tmp_path / "sites.o"))


@pytest.fixture
def refused(tmp_path: Path) -> Path:
    return Path(shutil.copy(REFUSED, tmp_path / "refused.o"))


@pytest.fixture
def thin(tmp_path: Path, sites: Path) -> Path:
    archive = tmp_path / "thin.a"
    run(CROSS + "ar", "rcST", "--thin", archive, sites)
    return archive


def by_command(path: Path, *options: str) -> bytes:
    """What `scpatch rewrite` makes of a file."""
    output = path.with_name("by-command")
    run(sys.executable, "-m", "scpatch", "rewrite", "-q", "-k", *options, "-o", output, path)
    return output.read_bytes()


def test_scan_gives_the_call_sites(sites: Path) -> None:
    scanned = scpatch.scan(sites)
    assert [entry.name for entry in scanned.objects] == [str(sites)]
    assert {site.trampoline for site in scanned.sites} <= {
        trampoline.name for trampoline in scanned.trampolines
    }
    assert scanned.sites == scanned.objects[0].scan.sites
    assert "rewrite" in {site.state for site in scanned.sites}
    assert scanned.stubs == ()
    assert len(scpatch.scan(by_command(sites)).stubs) > 0


def test_a_path_may_be_a_string(sites: Path) -> None:
    assert scpatch.scan(str(sites)) == scpatch.scan(sites)


def test_plan_writes_nothing(sites: Path) -> None:
    before = sites.read_bytes()
    plan = scpatch.plan(sites)
    assert plan.changed
    assert plan.refused == ()
    assert [output.target for output in plan.outputs] == [sites]
    assert plan.data != before
    assert sites.read_bytes() == before
    assert os.listdir(sites.parent) == [sites.name]


def test_a_plan_has_the_bytes_that_the_command_writes(sites: Path) -> None:
    assert scpatch.plan(sites).data == by_command(sites)
    assert scpatch.plan(sites, "localentry").data == by_command(sites, "--strategy", "localentry")


def test_bytes_in_bytes_out(sites: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = by_command(sites)
    before = sites.read_bytes()
    given = bytes(bytearray(before))
    for name in ("open", "mkdir", "replace", "link"):
        monkeypatch.setattr(os, name, _no_file)
    plan = scpatch.plan(given)
    assert (plan.data, plan.outputs, given) == (expected, (), before)
    assert scpatch.rewrite(given).data == expected
    assert [site.place for site in scpatch.scan(given).sites] == [site.place for site in plan.sites]


def _no_file(*arguments: object, **options: object) -> None:
    raise AssertionError(f"a file was used: {arguments}")


def test_bytes_without_calls_stay_as_they_are() -> None:
    data = (FIXTURES / "calls-pcrel.o").read_bytes()
    plan = scpatch.plan(data)
    assert not plan.changed
    assert plan.data == data


def test_an_archive_of_bytes(tmp_path: Path) -> None:
    archive = Path(shutil.copy(ARCHIVE, tmp_path / "members.a"))
    plan = scpatch.plan(ARCHIVE.read_bytes())
    assert plan.data == by_command(archive)
    assert next(entry.name for entry in plan.objects).startswith("<bytes>(")


def test_a_thin_archive_of_bytes_is_refused(thin: Path) -> None:
    with pytest.raises(scpatch.ScpatchError, match="thin archive") as error:
        scpatch.plan(thin.read_bytes())
    assert (error.value.code, error.value.file) == ("SCP109", "<bytes>")


def test_a_thin_archive_has_no_data(thin: Path) -> None:
    plan = scpatch.plan(thin)
    assert len(plan.outputs) == 2
    with pytest.raises(ValueError, match="several files: see outputs"):
        plan.data  # noqa: B018


@pytest.mark.parametrize(
    ("data", "code"),
    [(b"", "SCP101"), (b"text", "SCP101"), (b"\x7fELF", "SCP107"), (b"!<arch>\nx", "SCP108")],
)
def test_bytes_that_are_no_object(data: bytes, code: str) -> None:
    with pytest.raises(scpatch.ScpatchError) as error:
        scpatch.scan(data)
    assert (error.value.code, error.value.file) == (code, "<bytes>")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(scpatch.ScpatchError, match="No such file") as error:
        scpatch.scan(tmp_path / "none.o")
    assert error.value.code == "SCP109"


def test_rewrite_in_place_and_with_a_backup(sites: Path) -> None:
    before, expected = sites.read_bytes(), by_command(sites)
    scpatch.rewrite(sites, backup=True)
    assert sites.read_bytes() == expected
    assert sites.with_name("sites.o.orig").read_bytes() == before


def test_rewrite_to_an_output_leaves_the_source(sites: Path) -> None:
    before, output = sites.read_bytes(), sites.with_name("new.o")
    plan = scpatch.rewrite(sites, output=str(output))
    assert output.read_bytes() == plan.data
    assert sites.read_bytes() == before


def test_an_output_for_bytes_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="output does not go with bytes"):
        scpatch.rewrite(SITES.read_bytes(), output=tmp_path / "new.o")
    assert not list(tmp_path.iterdir())


def test_refused_calls_are_not_written_unless_allowed(refused: Path) -> None:
    before = refused.read_bytes()
    assert {site.state for site in scpatch.plan(refused).refused} == {"refused"}
    for source in (refused, before):
        with pytest.raises(scpatch.RefusedError) as error:
            scpatch.rewrite(source)
        assert error.value.code == "SCP135"
    assert refused.read_bytes() == before
    plan = scpatch.rewrite(refused, allow_refused=True)
    assert refused.read_bytes() == scpatch.plan(before).data != before
    assert len(plan.refused) == len(scpatch.plan(before).refused)


def test_a_plan_does_not_give_data_of_another_file(sites: Path) -> None:
    plan = scpatch.plan(sites)
    sites.write_bytes(REFUSED.read_bytes())
    with pytest.raises(scpatch.ScpatchError, match="changed") as error:
        plan.data  # noqa: B018
    assert error.value.code == "SCP112"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("no_nop", "thnk", "no_nop is 'thnk', not one of refuse, thunk"),
        ("undefined", "", "undefined is '', not one of auto, rewrite, skip"),
        ("hoist", "always", "hoist is 'always', not one of auto, kernel, never"),
        ("lines", None, "lines is None, not one of all, refused, none"),
        ("trampolines", "__SCT__*", "trampolines is '__SCT__\\*', not a sequence of patterns"),
        ("trampolines", (b"__SCT__*",), "trampolines is .*, not a sequence of patterns"),
        ("trampolines", (), r"trampolines is \(\), not a sequence of patterns"),
        ("emit_sites", "no", "emit_sites is 'no', not True or False"),
        ("strip_signature", None, "strip_signature is None, not True or False"),
        ("offsets", BAD_OFFSETS, "offsets.paca_toc is '16', not a number of bytes"),
    ],
)
def test_a_wrong_option_raises_at_once(name: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scpatch.Options(**{name: value})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        scpatch.Options()._replace(**{name: value})  # type: ignore[arg-type]


def test_an_option_is_an_enum_or_its_value() -> None:
    options = scpatch.Options(no_nop="thunk", hoist=scpatch.Hoist.KERNEL, trampolines=["a", "b"])
    assert options == scpatch.Options(
        no_nop=scpatch.NoNop.THUNK, hoist="kernel", trampolines=("a", "b")
    )
    assert isinstance(options.no_nop, scpatch.NoNop)
    with pytest.raises(AttributeError):
        options.no_nop = scpatch.NoNop.REFUSE  # type: ignore[misc]


def test_options_reach_the_plan(refused: Path) -> None:
    refusing = scpatch.plan(refused).refused
    thunks = scpatch.plan(refused, options=scpatch.Options(no_nop="thunk")).refused
    assert len(thunks) < len(refusing)
    assert not scpatch.scan(refused, scpatch.Options(trampolines=["nothing"])).sites
    with pytest.raises(scpatch.ScpatchError, match="the call has no key") as error:
        scpatch.plan(SITES, options=scpatch.Options(emit_sites=True))
    assert error.value.code == "SCP217"


def test_offsets_reach_the_strategy(sites: Path) -> None:
    with pytest.raises(scpatch.ScpatchError) as error:
        scpatch.plan(sites, "paca")
    assert error.value.code == "SCP115"
    offsets = scpatch.Offsets(paca_toc=16)
    assert scpatch.plan(sites, "paca", scpatch.Options(offsets=offsets)).changed


def test_offsets_of_a_header_by_its_name(tmp_path: Path) -> None:
    header = tmp_path / "asm-offsets.h"
    header.write_text("#define PACATOC 16 /* offsetof(struct paca_struct, kernel_toc) */\n")
    expected = scpatch.Offsets(paca_toc=16)
    assert scpatch.read_asm_offsets(str(header)) == scpatch.read_asm_offsets(header) == expected


def test_an_unknown_strategy(sites: Path) -> None:
    with pytest.raises(ValueError, match="strategy is 'magic', not one of callsite, "):
        scpatch.plan(sites, "magic")
    with pytest.raises(ValueError, match="strategy is '', not one of callsite, "):
        scpatch.plan(sites, "")


def test_the_strategies_that_there_are(sites: Path) -> None:
    strategies = scpatch.list_strategies()
    names = [strategy.name for strategy in strategies]
    assert names == sorted(names)
    assert all(
        strategy.summary and "\n" not in strategy.summary and strategy.text
        for strategy in strategies
    )
    assert [strategy.name for strategy in strategies if not strategy.serves_modules] == [
        "localentry",
        "paca",
    ]
    assert [strategy.name for strategy in strategies if strategy.takes_images] == ["paca"]


def test_verify_gives_a_verdict_for_each_object(sites: Path) -> None:
    output = sites.with_name("new.o")
    scpatch.rewrite(sites, output=output)
    for before, after, name in (
        (sites, output, str(output)),
        (sites.read_bytes(), output.read_bytes(), "<bytes>"),
    ):
        (verdict,) = scpatch.verify(before, after, run=False)
        assert (verdict.label, verdict.proven) == (name, True)
        (verdict,) = scpatch.verify(before, before, run=False)
        assert not verdict.proven


def test_verify_executes_unless_told_not_to(sites: Path) -> None:
    output = sites.with_name("new.o")
    scpatch.rewrite(sites, output=output)
    (verdict,) = scpatch.verify(sites, output)
    assert verdict.proven
    assert verdict.runs


def test_verify_an_archive_of_bytes() -> None:
    before = ARCHIVE.read_bytes()
    verdicts = scpatch.verify(before, scpatch.plan(before).data, run=False)
    assert [verdict.label.startswith("<bytes>(") for verdict in verdicts] == [True] * len(verdicts)
    assert len(verdicts) == len(scpatch.scan(before).objects)


def test_verify_refuses_what_is_no_object(sites: Path) -> None:
    with pytest.raises(scpatch.ScpatchError) as error:
        scpatch.verify(sites, b"text", run=False)
    assert (error.value.code, error.value.file) == ("SCP101", "<bytes>")


def test_verify_link_of_an_image(tmp_path: Path) -> None:
    image = (FIXTURES / "linked.so").read_bytes()
    path = Path(shutil.copy(FIXTURES / "linked.so", tmp_path))
    by_path, by_bytes = scpatch.verify_link([], path), scpatch.verify_link([], image)
    assert (by_path.label, by_bytes.label) == (str(path), "<bytes>")
    assert by_path.proof == by_bytes.proof
    with pytest.raises(scpatch.ScpatchError) as error:
        scpatch.verify_link([image], path)
    assert error.value.code == "SCP104"


def test_diff_gives_what_changed(sites: Path) -> None:
    before, after = sites.read_bytes(), scpatch.plan(sites).data
    assert scpatch.diff(before, before) == []
    (entry,) = scpatch.diff(sites, after)
    assert (entry.before, entry.after) == (str(sites), "<bytes>")
    assert not entry.diff.same
    assert entry.diff.total.sites > 0
    (with_more,) = scpatch.diff(before, after, context=1000)
    assert _rows(with_more.diff) > _rows(entry.diff)
    with pytest.raises(ValueError, match="context must not be negative"):
        scpatch.diff(before, after, context=-1)


def _rows(diff: scpatch.ObjectDiff) -> int:
    return sum(len(hunk) for function in diff.functions for hunk in function.hunks())


def test_diff_of_archives_with_other_members(sites: Path) -> None:
    with pytest.raises(scpatch.ScpatchError) as error:
        scpatch.diff(ARCHIVE, sites)
    assert error.value.code == "SCP113"


def test_advise_takes_paths_and_bytes(sites: Path) -> None:
    by_path, by_bytes = scpatch.advise(sites), scpatch.advise(sites.read_bytes())
    assert by_path.recommended in {strategy.name for strategy in scpatch.list_strategies()}
    assert by_path.outlooks == by_bytes.outlooks
    assert (str(by_path.path), str(by_bytes.path)) == (str(sites), "<bytes>")


def test_help_names_everything_and_says_what_it_raises() -> None:
    text = pydoc.render_doc(scpatch, renderer=pydoc.plaintext)  # type: ignore[attr-defined]
    for name in scpatch.__all__:
        assert name in text, name
        value = getattr(scpatch, name)
        if name != "Source":
            assert value.__doc__, name
            assert not value.__doc__.startswith(f"{name}("), (
                f"{name} has only a generated docstring"
            )
        if inspect.isfunction(value) and name != "list_strategies":
            assert "Raises" in (value.__doc__ or ""), name


def test_the_import_is_light() -> None:
    """A build imports the package thousands of times."""
    program = (
        "import scpatch, sys; from scpatch import errors;"
        "print([name for name in sys.modules if name.startswith('scpatch')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "['scpatch', 'scpatch.errors']\n"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'scpatch' has no attribute 'rewirte'"):
        scpatch.rewirte  # type: ignore[attr-defined]  # noqa: B018
    assert {*scpatch.__all__, "__version__"} <= set(dir(scpatch))
