"""Which command lines are the links of vmlinux and of modules, and what of them is an input."""

from __future__ import annotations

import pytest

from scpatch.kbuild.arguments import Link, read
from scpatch.kbuild.settings import parse, split
from scpatch.options import UsageError
from scpatch.sites.choices import NoNop, Undefined
from tests.kbuild.support import image_arguments, module_arguments
from tests.kbuild.test_script import PASSED


@pytest.mark.parametrize("linker", ["bfd", "lld"])
def test_the_two_links_are_known(linker: str) -> None:
    assert read(["ld", *image_arguments(linker=linker)]).link is Link.VMLINUX
    assert read(["ld", *module_arguments(linker=linker)]).link is Link.MODULE


@pytest.mark.parametrize("arguments", PASSED, ids=lambda words: words[-1][:30])
def test_other_calls_are_neither(arguments: list[str]) -> None:
    assert read(["ld", *arguments]).link is None


@pytest.mark.parametrize(
    ("words", "link"),
    [
        ("-T arch/powerpc/kernel/vmlinux.lds -o x a.o", Link.VMLINUX),
        ("-Tarch/powerpc/kernel/vmlinux.lds -ox a.o", Link.VMLINUX),
        ("--script /o/arch/powerpc/kernel/vmlinux.lds --output=x a.o", Link.VMLINUX),
        ("-r -T arch/powerpc/kernel/vmlinux.lds -o x a.o", None),
        ("-T arch/powerpc/kernel/vmlinux.lds.o -o x a.o", None),
        ("arch/powerpc/kernel/vmlinux.lds -o x a.o", None),
        ("-r -T/lib/modules/6/build/scripts/module.lds -o /m/x.ko x.o", Link.MODULE),
        ("--relocatable --script=scripts/module.lds --output x.ko x.o", Link.MODULE),
        # Debian's linux-headers, and a link with another script or output.
        ("-r -T ./arch/powerpc/module.lds -o m/x.ko m/x.o m/x.mod.o", Link.MODULE),
        ("-r -Tmodule.lds -o x.o x.mod", Link.MODULE),
        ("-r -o x.ko x.o", Link.MODULE),
        ("-r x.o x.mod.o .module-common.o -o x.out", Link.MODULE),
        ("-r -T x.lds -o x.o x.ko", None),
        ("-T scripts/module.lds -o x.ko x.o", None),
        ("-pie -T arch/x86/kernel/vmlinux.lds -o x a.o", Link.UNKNOWN),
        ("-pie -T my.lds -o vmlinux a.o", Link.UNKNOWN),
        ("-pie -ovmlinux.unstripped a.o", Link.UNKNOWN),
        ("-pie --output=o/.tmp_vmlinux1 a.o", Link.UNKNOWN),
        ("-T zImage.lds -o zImage vmlinux.strip.gz", None),
    ],
)
def test_other_spellings(words: str, link: Link | None) -> None:
    assert read(["ld", *words.split()]).link is link


@pytest.mark.parametrize(
    ("name", "later"),
    [
        (".tmp_vmlinux.kallsyms1.o", True),
        ("o/.tmp_vmlinux.kallsyms2.o", True),
        (".btf.vmlinux.bin.o", True),
        # Linux 6.10 and later: the first link has a table without symbols.
        (".tmp_vmlinux0.kallsyms.o", False),
        (".tmp_vmlinux1.kallsyms.o", True),
        (".tmp_vmlinux1.btf.o", True),
        ("init/version-timestamp.o", False),
    ],
)
def test_a_later_link_has_what_an_earlier_one_made(name: str, later: bool) -> None:
    assert read(["ld", *image_arguments(".tmp_vmlinux.kallsyms1")]).is_first
    assert read(["ld", *image_arguments(), name]).is_first != later


def test_inputs_are_what_no_option_takes() -> None:
    words = "-z notext a.o -m elf64lppc -L lib -lgcc --defsym x=y -Map m -O2 --gc-sections b.a -o c"
    command = read(["ld", *words.split(), "-e", "start", "--entry=x", "d.o", "-Map=m2", "-G0", "e"])
    assert [command.arguments[i] for i in command.inputs] == ["a.o", "b.a", "d.o", "e"]


@pytest.mark.parametrize("spelling", ["-o vmlinux", "-ovmlinux", "--output=vmlinux"])
def test_inputs_and_output_are_replaced_in_place(spelling: str) -> None:
    command = read(["ld", "-L", "a.o", "a.o", *spelling.split(), "b.o", "a.o"])
    new = command.with_inputs({"a.o": "copy.o"}).with_output("other")
    changed = spelling.replace("vmlinux", "other").split()
    assert new.arguments == ("-L", "a.o", "copy.o", *changed, "b.o", "copy.o")


def test_options_before_the_linker_are_those_of_scpatch() -> None:
    settings, rest = split(["--warn-only", "--no-nop=thunk", "ld", "-r"])
    assert rest == ("ld", "-r")
    assert settings == parse(["--no-nop=thunk", "--warn-only"])


@pytest.mark.parametrize("flags", ["", "--strategy localentry"])
def test_a_value_may_be_the_next_word(flags: str) -> None:
    words = "--strategy paca --trampoline a* --trampoline=b --warn-only ld --strategy"
    settings, rest = split(words.split(), flags)
    assert (settings.strategy, settings.trampolines, settings.warn_only) == (
        *("paca", ("a*", "b")),
        True,
    )
    assert rest == ("ld", "--strategy")


def test_a_word_that_is_no_option_in_the_flags() -> None:
    with pytest.raises(UsageError, match="paca in SCPATCH_FLAGS is no option"):
        split(["ld"], "--warn-only paca")


def test_settings() -> None:
    settings = parse(["--warn-only", "--trampoline=a*", "--trampoline=b", "--no-nop=thunk"])
    assert settings.warn_only
    assert settings.module_options.trampolines == ("a*", "b")
    assert settings.module_options.no_nop is NoNop.THUNK
    assert parse(["--undefined=skip", "--undefined=rewrite"]).undefined is Undefined.REWRITE
    assert not settings.module_options.emit_sites
    assert parse(["--emit-sites"]).image_options.emit_sites
    more = (["--warn-only"], ["--trampoline=x"], ["--emit-sites"])
    assert len({parse(words).key for words in ([], *more)}) == 4


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("--foo", "unknown option --foo"),
        ("-x", "unknown option -x"),
        ("--no-nop", "invalid value for --no-nop: there is none"),
        ("--no-nop --warn-only", "invalid value for --no-nop: there is none"),
        ("paca", "paca is no option and no value of one"),
        ("--trampoline=", "invalid value for --trampoline: it is empty"),
        ("--unmark=yes", "invalid value for --unmark: it takes none"),
        ("--paca-toc-offset=-8", "invalid value for --paca-toc-offset: '-8' is not a number"),
    ],
)
def test_a_wrong_option_is_a_usage_error(word: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(word.split(" "))
    assert str(caught.value).startswith(f"scpatch-ld: {message}")
    assert "--no-nop=refuse|thunk" in caught.value.hint
    assert caught.value.status == 2


@pytest.mark.parametrize(
    ("word", "hint"),
    [("--no-nop=thnk", "did you mean thunk?"), ("--no-nob=thunk", "did you mean --no-nop?")],
)
def test_a_mistyped_option_is_answered_with_what_was_meant(word: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse([word])
    assert caught.value.hint == hint


def test_what_is_built_is_a_kernel() -> None:
    """No function of a kernel is preempted, so nops after calls may save r2."""
    assert parse([]).module_options.hoist == "kernel"
    assert parse(["--hoist=never"]).module_options.hoist == "never"
    with pytest.raises(UsageError):
        parse(["--hoist=always"])


def test_modules_may_need_another_strategy() -> None:
    strategies = {
        words: parse(words.split()).module_options.strategy
        for words in (
            "",
            "--strategy=localentry",
            "--strategy=paca",
            "--strategy=livepatch-stack",
            "--strategy=localentry --module-strategy=livepatch-stack",
        )
    }
    assert list(strategies.values()) == [
        "callsite",
        "callsite",
        "callsite",
        "livepatch-stack",
        "livepatch-stack",
    ]
    assert parse(["--strategy=localentry"]).image_options.strategy == "localentry"
    keys = {parse(words.split()).key for words in ("", "--module-strategy=paca")}
    assert len(keys) == 2


def test_unmark_goes_with_the_default_strategy_only() -> None:
    with pytest.raises(UsageError) as caught:
        _ = parse(["--strategy=localentry", "--unmark"]).module_options
    assert caught.value.message == (
        "invalid value for --unmark: it goes with --strategy=callsite only"
    )


@pytest.mark.parametrize("option", ["--strategy", "--module-strategy"])
def test_an_unknown_strategy(option: str) -> None:
    more = "auto, " if option == "--strategy" else ""
    with pytest.raises(UsageError, match=f"{option}: 'none' is not one of {more}callsite, "):
        parse([f"{option}=none"])
