"""The scan report in all its forms."""

from __future__ import annotations

import re

import pytest

from scpatch.report.forms import print_report
from scpatch.report.forms.text import draw
from scpatch.report.scan import ScanReport
from scpatch.report.screen import Screen
from scpatch.sites.actions import Common
from scpatch.sites.model import Scan, Site, Trampoline
from tests.report.support import FIXTURES, PREFIX, plan, run, validated


def scanned(name: str) -> tuple[str, Scan]:
    return name, plan(name).objects[0].scan


def test_plain_has_one_line_a_site(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(ScanReport([scanned("refused.o")]), "plain")
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [fields[0] for fields in lines] == ["trampoline"] + ["site"] * 8
    assert all(fields[1] == "refused.o" for fields in lines)
    sites = {fields[3].partition("+")[0]: fields for fields in lines[1:]}
    assert sites["sibling_call"][4:] == [
        *("__SCT__name", "refused", "SCP203", "-", "sibling call (b) to __SCT__name")
    ]
    assert sites["accepted"][5:] == ["rewrite", "-", "-", "-"]


def test_plain_places_are_those_of_the_relocations(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(ScanReport([scanned("sites.o")]), "plain")
    fields = re.findall(r"^site\t\S+\t(\S+)\+0x([0-9a-f]+)\t", capsys.readouterr().out, re.M)
    places = {(section, int(offset, 16)) for section, offset in fields}
    wanted = set()
    section = ""
    for line in run(PREFIX + "readelf", "-rW", FIXTURES / "sites.o").splitlines():
        if match := re.match(r"Relocation section '\.rela(.*)' at", line):
            section = match[1]
        elif re.search(r"R_PPC64_REL24\w*\s.*(__SCT__|\.tramp)", line):
            wanted.add((section, int(line.split()[0], 16)))
    assert places
    assert places == wanted


def test_json_follows_the_schema_and_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["refused.o", "sites.o", "marked.o", "module.ko", "calls-gcc-dwarf.o", "unmarked.o"]
    objects = [scanned(name) for name in names]
    print_report(ScanReport(objects), "json")
    document = validated(capsys.readouterr().out)
    assert document["command"] == "scan"
    files = document["files"]
    assert isinstance(files, list)
    assert [file["file"] for file in files] == names
    for file, (_, scan) in zip(files, objects, strict=True):
        assert [site["state"] for site in file["sites"]] == [str(s.state) for s in scan.sites]
        assert sum(file["states"].values()) == len(scan.sites)
    assert files[3]["module"] is True
    assert all(site["line"].startswith("calls.c:") for site in files[4]["sites"])


@pytest.mark.parametrize("columns", ["40", "80", "160"])
def test_table_fits_the_screen(columns: str) -> None:
    report = ScanReport([scanned("refused.o"), scanned("sites.o")])
    out = "\n".join(draw(report, Screen(int(columns), 0))) + "\n"
    for site in [*scanned("refused.o")[1].sites, *scanned("sites.o")[1].sites]:
        assert re.search(rf"{re.escape(site.state)} +\S+\+{site.offset:#x} ", out)
    if int(columns) >= 80:
        assert max(map(len, out.splitlines())) <= int(columns)
    whole = "\n".join(draw(report, Screen(int(columns), 0, whole=True)))
    assert ".text.past_the_end+0x14  past_the_end+0x14" in whole
    assert "SCP203 sibling call (b) to __SCT__name" in out
    assert out.splitlines()[1] == "  1 to rewrite, 7 refused"
    for state in ("rewrite", "refused", "saved"):
        assert re.search(rf"^  {state} +[a-z]", out.rpartition("\n\n")[2], re.M)


def test_an_object_without_call_sites(capsys: pytest.CaptureFixture[str]) -> None:
    for form in ("text", "plain", "json"):
        print_report(ScanReport([("none.o", Scan((), (), (), module=False))]), form)
    out = capsys.readouterr().out
    assert out.startswith("none.o: object, 0 trampolines, 0 call sites\n{")


def test_hostile_names_stay_on_their_line(capsys: pytest.CaptureFixture[str]) -> None:
    evil = "f\n\x1b[2Jx"
    trampoline = Trampoline(evil, 1, 0, 0, 0, 0, 0)
    site = Site(1, ".te\txt", 4, evil, 0, evil, trampoline, 0, 1, 0, 0x48000001)
    site = site._replace(state=Common.DONE)
    scan = Scan((trampoline,), (), (site,), module=False)
    for form, lines in (("plain", 2), ("text", 8)):
        print_report(ScanReport([(evil, scan)]), form)
        out = capsys.readouterr().out
        assert "\x1b" not in out
        assert len(out.splitlines()) == lines
    print_report(ScanReport([(evil, scan)]), "json")
    validated(capsys.readouterr().out)
