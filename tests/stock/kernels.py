"""Debian's own kernels for ppc64el, and what their modules are built against."""

from __future__ import annotations

import platform
import re
import shutil
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.debian import ALL, KEPT, Lists, Package, available, field, newest, unpacked
from tests.kernel.store import KernelError, folder, key, locked, logged

ARCHITECTURE = "ppc64el"


class Stock(NamedTuple):
    """A kernel as Debian has built it."""

    release: str
    """What `uname -r` prints: 6.12.95+deb12-powerpc64le."""
    vmlinux: Path
    tree: Path
    """The headers, for `make -C`."""

    @property
    def asm_offsets(self) -> Path:
        return self.tree / "include/generated/asm-offsets.h"


def own_release() -> str:
    """The Debian release of this machine. Its kernels are built with its compiler, and the tools
    in its kernel headers run here.

    Raises KernelError where the machine does not say.
    """
    try:
        return platform.freedesktop_os_release().get("VERSION_CODENAME", "sid")
    except OSError as error:
        raise KernelError(f"this is no Debian machine: {error}") from None


def stock(releases: Sequence[str]) -> Stock:
    """The newest kernel of the first release that has one, ready to build modules and to boot. It
    warns of releases that have none.

    Raises KernelError where no release has one, or the archive cannot be reached.
    """
    failures = []
    for release in releases:
        try:
            kernel = _newest_of(release)
        except KernelError as error:
            failures.append(str(error))
            continue
        for failure in failures:
            warnings.warn(f"{kernel.release} is tested instead: {failure}", stacklevel=2)
        return kernel
    raise KernelError(
        "a built kernel of Debian is needed, with its headers. It is fetched once; "
        "`--ignore tests/stock` leaves out what needs it.\n" + "\n".join(failures)
    )


def _newest_of(release: str) -> Stock:
    failures = []
    for image in available(r"linux-image-[0-9].*-powerpc64le", Lists(release, ARCHITECTURE)):
        try:
            return _fetched(image)
        except KernelError as error:
            failures.append(f"{image.name}: {error}")
    reason = "\n".join(failures) or "there is no linux-image"
    raise KernelError(f"no kernel can be had from Debian's {release} ({ARCHITECTURE}): {reason}")


def _fetched(image: Package) -> Stock:
    release = image.name.removeprefix("linux-image-")
    files = unpacked(image)
    for name in _dependencies(files, "linux-binary-"):
        files = _exactly(name, image.lists)
    headers = _exactly(f"linux-headers-{release}", image.lists)
    # The tools are programs of this machine; ALL stands for its lists.
    own = Lists(image.lists.release, ALL)
    names = [*_dependencies(headers, "linux-headers-"), *_dependencies(headers, "linux-kbuild-")]
    parts = [headers, *(_exactly(name, own) for name in names)]
    root = folder() / "stock" / f"{release}-{key(image.version, Path(__file__))}"
    tree = root / "usr/src" / f"linux-headers-{release}"
    with locked(folder() / "stock.lock"):
        if not (root / ".complete").exists():
            _assemble(root, parts, tree / "Makefile")
        (root / ".complete").touch()
        _drop_unused(root.parent)
    return Stock(release, _image(files), tree)


def _dependencies(files: Path, start: str) -> list[str]:
    """The packages that an unpacked one needs, of those whose names start so."""
    names = re.findall(r"[\w.+-]+", field(files, "Depends"))
    return sorted({name for name in names if name.startswith(start)})


def _exactly(name: str, lists: Lists) -> Path:
    return unpacked(newest(re.escape(name), lists))


def _image(files: Path) -> Path:
    """An ELF file, whatever its name; since 7.2 it is among the modules."""
    for pattern in ("boot/vmlinux-*", "usr/lib/modules/*/vmlinuz"):
        for path in files.glob(pattern):
            return path
    raise KernelError(f"there is no kernel in {files}")


def _assemble(root: Path, parts: Sequence[Path], makefile: Path) -> None:
    """Puts the packages together as they would be in /. Their links are relative, but the first
    Makefile includes one by its absolute path."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    log = root / "cp.log"
    for part in parts:
        logged(["cp", "-al", part / "usr", root], log)
    text = makefile.read_text()
    makefile.unlink()
    makefile.write_text(text.replace("/usr/src/", f"{root}/usr/src/"))


def _drop_unused(folder: Path) -> None:
    for old in folder.iterdir():
        complete = old / ".complete"
        if not complete.exists() or complete.stat().st_mtime < time.time() - KEPT:
            shutil.rmtree(old)
