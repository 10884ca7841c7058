"""Jump tables of `label - table` words: which place an entry means, whoever jumps there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tools import CLANG, assemble, compile_c, states

LOAD = "addis 9, 2, .Ltab@toc@ha\n addi 9, 9, .Ltab@toc@l\n"
REFER = f"FUNC cold\n {LOAD} mtctr 9\n bctr\nEND cold\n"
FAR = "FUNC cold\n mtctr 9\n bctr\nEND cold\n"


def function(name: str, body: str) -> str:
    return f"FRAME {name}\n std 2, 24(1)\n {body}\nLEAVE {name}\n"


BODY = """
        cmpdi 3, 0
        beq 3f
1:      addi 3, 3, 1
        addi 3, 3, 2
2:      addi 3, 3, 3
3:      CALL __SCT__x
"""
"""Saved after the entry; control may also come to 1 and 2, if a table says so."""


def table(*entries: str, name: str = ".Ltab", kind: str = ".long") -> str:
    lines = "\n".join(f" {kind} {entry}" for entry in entries)
    return f'.section .rodata, "a"\n .balign 8\n{name}:\n{lines}\n .text\n'


AWAY = function("away", BODY)
OTHERS = ["cold-.Ltab"] * 60
"""Entries before it, so that what the relocation of the last one names is past the function."""

CASES = {
    "a table of another function": (AWAY + table(*OTHERS, "2b-.Ltab") + REFER, "rewrite"),
    "a table that only a symbol names": (
        AWAY + table(*OTHERS, "2b-tab", name="tab").replace(".Ltab", "tab") + FAR,
        "rewrite",
    ),
    "eight bytes an entry": (AWAY + table(*OTHERS, "2b-.Ltab", kind=".quad") + REFER, "rewrite"),
    "a table without a name": (AWAY + table(*OTHERS, "2b-.Ltab") + FAR, "rewrite"),
    "a table with a gap": (AWAY + table(*OTHERS, "0", "2b-.Ltab") + REFER, "rewrite"),
    "a table after another": (
        AWAY + table("cold-.Lone", name=".Lone") + table("cold-.Ltab", "2b-.Ltab") + REFER,
        "rewrite",
    ),
    "distances from each entry": (AWAY + table("1b-.") + FAR, "rewrite"),
}
"""The case and what becomes of the site. In each a label of `away` is an entry."""


@pytest.mark.parametrize(("code", "want"), CASES.values(), ids=CASES)
def test_an_entry_by_way_of_a_table(tmp_path: Path, code: str, want: str) -> None:
    assert states(assemble(tmp_path, code), undefined="rewrite") == {"away": [want]}


def test_a_nop_that_a_table_leads_to(tmp_path: Path) -> None:
    code = function("f", "bl __SCT__x\n4: nop\n") + table("4b-.Ltab", "4b-.Ltab") + REFER
    assert states(assemble(tmp_path, code), undefined="rewrite") == {"f": ["refused SCP202"]}


def test_a_nop_that_only_the_bias_leads_to(tmp_path: Path) -> None:
    code = function("f", "b 4f\n4: bl __SCT__x\n nop\n") + table("4b-.Ltab", "4b-.Ltab") + REFER
    assert states(assemble(tmp_path, code), undefined="rewrite") == {"f": ["rewrite"]}


SWITCH = """
extern long __SCT__a(long), __SCT__b(long), __SCT__c(long);
extern long g;
long f(long x, long y)
{
        long r = 0;
        switch (y) {
        case 0: r = g; break;
        case 1: r = __SCT__a(x) * 3 + g; break;
        case 2: r = __SCT__c(7) ^ g; g = r; break;
        case 3: g = __SCT__b(9) - 5; break;
        case 4: r = __SCT__c(x) / 7; break;
        case 5: g ^= 77; break;
        case 6: r = g << 3; break;
        }
        return r + g;
}
"""


def test_an_ordinary_switch_of_clang(tmp_path: Path) -> None:
    path = compile_c(tmp_path, SWITCH, "-O2", compiler=CLANG)
    assert states(path, undefined="rewrite") == {"f": ["rewrite"] * 4}


def test_an_address_by_parts(tmp_path: Path) -> None:
    """`label - base` in two instructions: the relocations name places up to eight bytes later."""
    body = "7: mflr 9\n addis 9, 9, (.Lin-7b)@ha\n addi 9, 9, (.Lin-7b)@l\n mtctr 9\n bctr\n"
    cold = f'.section .text.cold, "ax"\n bcl 20, 31, 7f\n{body} .text\n'
    code = function("f", "addi 3, 3, 1\n.Lin: addi 3, 3, 2\n CALL __SCT__x\n") + cold
    assert states(assemble(tmp_path, code), undefined="rewrite") == {"f": ["rewrite"]}
