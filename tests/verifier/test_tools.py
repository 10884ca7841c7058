"""Which binutils and which QEMU the verifier calls."""

from pathlib import Path

import pytest

from scpatch.errors import ScpatchError
from scpatch.verifier.tools import PREFIXES, Toolchain, Tools, find, find_tools

GNU_LD = (
    "echo 'GNU ld 2.44'; echo '  Supported emulations:'; echo '   elf64ppc'; echo '   elf64lppc'"
)
DEBIAN, KERNEL_ORG, SUSE = "powerpc64le-linux-gnu-", "powerpc64-linux-", "powerpc64le-suse-linux-"


def program(path: Path, text: str = GNU_LD) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An x86-64 that has only the programs of a test."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CROSS_COMPILE", raising=False)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")


def test_missing_programs_name_the_package(tmp_path: Path) -> None:
    steps = [
        ("powerpc64le-linux-gnu-ld", "binutils-powerpc64le-linux-gnu"),
        ("powerpc64le-linux-gnu-as", "binutils-powerpc64le-linux-gnu"),
        ("qemu-ppc64le", "qemu-user"),
    ]
    for name, package in steps:
        with pytest.raises(ScpatchError) as error:
            find_tools()
        assert error.value.code == "SCP301"
        assert error.value.message.startswith(name)
        assert f"(Debian: {package})" in error.value.hint
        assert "--no-run" in error.value.hint
        program(tmp_path / name)
    assert find_tools().emulator == str(tmp_path / "qemu-ppc64le")


def test_a_ppc64le_machine_needs_no_emulator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "ppc64le")
    with pytest.raises(ScpatchError, match="ld is needed") as error:
        find_tools()
    assert "(Debian: binutils)," in error.value.hint
    for name in ("ld", "as"):
        program(tmp_path / name)
    assert find_tools() == Tools(str(tmp_path / "ld"), str(tmp_path / "as"), None)


def test_programs_may_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    program(tmp_path / "mine-as")
    tools = find_tools(Toolchain("mine-", ld="./mine", qemu="./mine"))
    assert tools == Tools(*(f"{tmp_path}/{name}" for name in ("mine", "mine-as", "mine")))
    with pytest.raises(ScpatchError, match="no-such-program is needed"):
        find_tools(Toolchain(ld="no-such-program"))


@pytest.mark.parametrize("prefix", PREFIXES)
def test_the_usual_prefixes_are_known(tmp_path: Path, prefix: str) -> None:
    for name in (f"{prefix}ld", f"{prefix}as", "qemu-ppc64le-static", "ld", "as"):
        program(tmp_path / name)
    tools = find_tools()
    assert Path(tools.ld).name == f"{prefix}ld"
    assert Path(tools.assembler).name == f"{prefix}as"
    assert Path(tools.emulator or "").name == "qemu-ppc64le-static"


def test_the_option_comes_before_the_environment_and_that_before_usual_prefixes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for prefix in (DEBIAN, SUSE, KERNEL_ORG):
        for tool in ("ld", "as"):
            program(tmp_path / f"{prefix}{tool}")
    program(tmp_path / "qemu-ppc64le")
    assert Path(find_tools().ld).name == f"{DEBIAN}ld"
    monkeypatch.setenv("CROSS_COMPILE", SUSE)
    assert Path(find_tools().ld).name == f"{SUSE}ld"
    named = Toolchain(f"{tmp_path}/{KERNEL_ORG}")
    assert find_tools(named).assembler == f"{tmp_path}/{KERNEL_ORG}as"
    assert find_tools(Toolchain(KERNEL_ORG, ld=f"{DEBIAN}ld")).ld == f"{tmp_path}/{DEBIAN}ld"


def test_a_prefix_without_programs_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another toolchain than the one that was named is never taken."""
    monkeypatch.setenv("CROSS_COMPILE", "aarch64-none-")
    with pytest.raises(ScpatchError, match="aarch64-none-ld is needed to run"):
        find_tools()


def test_the_hosts_own_tools_serve_for_what_is_the_same_everywhere(tmp_path: Path) -> None:
    program(tmp_path / "ar")
    assert find("ar", toolchain=Toolchain(), purpose="", any_machine=True) == f"{tmp_path}/ar"
    with pytest.raises(ScpatchError):
        find("ar", toolchain=Toolchain(), purpose="")


@pytest.mark.parametrize("said", ["LLD 19.1.7 (compatible with GNU linkers)", "GNU ld 2.44"])
def test_a_linker_for_other_programs_is_refused(tmp_path: Path, said: str) -> None:
    linker = program(tmp_path / "mine", f"echo '{said}'; echo '   elf_x86_64'")
    with pytest.raises(ScpatchError) as error:
        find_tools(Toolchain(ld="mine"))
    assert error.value.code == "SCP303"
    assert error.value.message.startswith(f"{linker} is no GNU ld for ppc64le (it says '{said}'")
