"""The report of a verification, from verdicts made by hand and from a real one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from scpatch.report.forms import print_report
from scpatch.report.verify import VerifyReport, summary_line
from scpatch.verifier.execute.judge import Outcome
from scpatch.verifier.files import verify_files
from scpatch.verifier.reasons import every_reason
from scpatch.verifier.tools import Tools
from scpatch.verifier.types import CallSite, Checkers, Proof, SiteProof
from scpatch.verifier.verdict import SiteRuns, Verdict
from tests.report.support import FIXTURES, rewritten, validated


def proof(state: str = "stub", *, right: bool = True, was_right: bool = False) -> SiteProof:
    return SiteProof(
        section=1,
        section_name=".text",
        offset=20,
        function="f",
        function_offset=4,
        trampoline="__SCT__x",
        trampoline_section=0,
        trampoline_offset=0,
        trampoline_other=0,
        state={str(reason): reason for reason in every_reason()}[state],
        right=right,
        was_right=was_right,
        why="because",
        resume=28,
        saved_before=False,
        loader=False,
    )


RUN_SITE = CallSite(1, ".text", 20, "__SCT__x", 0, 0, 0, 28, saved_before=False, loader=False)
PASSED = Outcome(RUN_SITE, True, ())
FAILED = Outcome(RUN_SITE, True, ("r2 is wrong",))
UNREACHED = Outcome(RUN_SITE, False, ("the target was not reached",))


def verdict(site: SiteProof, *runs: Outcome, errors: tuple[str, ...] = ()) -> Verdict:
    ran = (SiteRuns(site, runs[0], runs[1]),) if runs else None
    return Verdict("x.o", Proof((site,), errors), ran)


GOOD = verdict(proof(), FAILED, PASSED)
HARMLESS = verdict(proof(), PASSED, PASSED)
FAILING = verdict(proof(), FAILED, UNREACHED)
LEFT = verdict(proof("left", right=False), FAILED, FAILED)
RESTORED = verdict(proof("restored", right=False), PASSED, PASSED)
UNRUN = verdict(proof())
BROKEN = Verdict("x.o", Proof((), ("two symbol tables.",)), None)
ALL = [GOOD, HARMLESS, FAILING, LEFT, UNRUN, BROKEN, RESTORED]


@pytest.mark.parametrize(
    ("verdict", "text"),
    [
        (RESTORED, "NOT SHOWN: 1 call site (1 restored); 1 executed: 0 failed before, 1 pass now"),
        (GOOD, "proven: 1 call site (1 stub); 1 executed: 1 failed before, 1 pass now"),
        (HARMLESS, "NOT PROVEN: 1 call site (1 stub); 1 executed: 0 failed before, 1 pass now"),
        (FAILING, "NOT PROVEN: 1 call site (1 stub); 1 executed: 1 failed before, 0 pass now"),
        (LEFT, "NOT PROVEN: 1 call site (1 left); 1 executed: 1 failed before, 0 pass now"),
        (UNRUN, "proven: 1 call site (1 stub); not executed"),
        (BROKEN, "NOT PROVEN: 0 call sites; not executed; 1 error"),
    ],
)
def test_summary(verdict: Verdict, text: str) -> None:
    assert summary_line(verdict) == f"x.o: {text}"


@pytest.mark.parametrize(
    ("verdict", "row", "reasons"),
    [
        (GOOD, "  ok  .text+0x14  f+0x4  saved by a stub  failed -> passed", []),
        (
            HARMLESS,
            "  BAD  .text+0x14  f+0x4  saved by a stub  passed -> passed",
            [
                "because",
                "before: it passed although r2 was wrong, so the run proves nothing",
            ],
        ),
        (
            FAILING,
            "  BAD  .text+0x14  f+0x4  saved by a stub  failed -> not reached",
            ["because", "after: the target was not reached"],
        ),
        (
            LEFT,
            "  BAD  .text+0x14  f+0x4  wrong, as before  failed -> failed",
            ["because", "after: r2 is wrong"],
        ),
        (UNRUN, "  ok  .text+0x14  f+0x4  saved by a stub", []),
        (RESTORED, "  ??  .text+0x14  f+0x4  save not shown  passed -> passed", ["because"]),
        (BROKEN, "  error two symbol tables.", []),
    ],
)
def test_terminal(
    verdict: Verdict,
    row: str,
    reasons: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_report(VerifyReport([verdict]), "text")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == summary_line(verdict)
    assert lines[2] == row
    listed, _, legend = "\n".join(["", *lines[3:]]).partition("\n\n")
    assert [line.strip() for line in listed.strip().splitlines()] == reasons
    meanings = [site.state for site in verdict.proof.sites]
    assert " ".join(legend.split()) == " ".join(f"{s.text} ({s}) {s.meaning}" for s in meanings)


@pytest.mark.parametrize(
    ("emulator", "text"),
    [
        ("/usr/bin/qemu-ppc64le", "; run with qemu-ppc64le."),
        (None, "; run on this machine."),
    ],
)
def test_what_took_part_is_told(
    emulator: str | None, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    checkers = Checkers("pyelftools 0.33", "GNU objdump 2.40")
    tools = Tools("/usr/bin/ld", "/usr/bin/as", emulator)
    report = VerifyReport(
        [replace(GOOD, proof=replace(GOOD.proof, checkers=checkers), tools=tools), UNRUN]
    )
    print_report(report, "text")
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"Checked with pyelftools and GNU objdump{text}"
    print_report(report, "plain")
    checked = [line.split("\t") for line in capsys.readouterr().out.splitlines()][1]
    assert checked == ["checked", "x.o", *checkers, "/usr/bin/ld", emulator or "-"]
    print_report(report, "json")
    file = validated(capsys.readouterr().out)["files"][0]  # type: ignore[index]
    said = [file[key] for key in ("second_opinion", "disassembler", "linker", "emulator")]
    assert said == [*checkers, "/usr/bin/ld", emulator]


def test_verbose_gives_the_whole_reason(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(VerifyReport([GOOD], True), "text")
    assert capsys.readouterr().out.splitlines()[3] == "        because"


def test_every_row_is_good_exactly_if_the_verdict_is(capsys: pytest.CaptureFixture[str]) -> None:
    """The report must not contradict the exit code."""
    for verdict in [GOOD, HARMLESS, FAILING, LEFT, UNRUN, RESTORED]:
        print_report(VerifyReport([verdict]), "plain")
        lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
        assert (lines[0][6] == "good") == verdict.proven
        words = {"good": "proven", "not shown": "not shown", "bad": "not proven"}
        assert lines[-1] == ["verdict", "x.o", words[lines[0][6]]]


def test_plain(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(VerifyReport([FAILING, BROKEN]), "plain")
    assert [line.split("\t") for line in capsys.readouterr().out.splitlines()] == [
        [
            *("site", "x.o", ".text+0x14", "f+0x4", "__SCT__x", "stub", "bad"),
            *("failed", "not reached", "because", "after: the target was not reached"),
        ],
        ["verdict", "x.o", "not proven"],
        ["error", "x.o", "two symbol tables."],
        ["verdict", "x.o", "not proven"],
    ]


def test_json_follows_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(VerifyReport(ALL), "json")
    document = validated(capsys.readouterr().out)
    assert (document["proven"], document["verdict"]) == (False, "not proven")
    files = document["files"]
    assert isinstance(files, list)
    assert [file["proven"] for file in files] == [verdict.proven for verdict in ALL]
    assert [file["verdict"] for file in files][-2:] == ["not proven", "not shown"]
    assert files[0]["sites"][0]["run_before"]["reasons"] == ["r2 is wrong"]
    assert files[4]["sites"][0]["run_before"] is None
    print_report(VerifyReport([GOOD, UNRUN]), "json")
    document = validated(capsys.readouterr().out)
    assert (document["proven"], document["verdict"]) == (True, "proven")


def test_a_real_proof(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    after = rewritten("sites.o", tmp_path)
    verdicts = verify_files(FIXTURES / "sites.o", after)
    print_report(VerifyReport(verdicts), "text")
    out = capsys.readouterr().out
    summary, *_, checked = out.splitlines()
    assert summary.endswith(
        "proven: 22 call sites (14 stub, 6 saved, 1 done, 1 notoc); not executed"
    )
    opinion = verdicts[0].proof.checkers.second_opinion.split()[0]
    assert checked in {
        f"Checked with {opinion} and capstone.",
        f"Checked with {opinion} and GNU objdump.",
    }
    assert opinion in {"LIEF", "pyelftools"}
    assert "\n  ok  .text+0x104 " in out
    print_report(VerifyReport(verdicts), "json")
    validated(capsys.readouterr().out)
