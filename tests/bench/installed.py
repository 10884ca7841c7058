"""scpatch as a user has it: in an environment of its own, compiled, not editable.

An editable installation makes each start of Python slower, scpatch or not, and so would flatter a
ratio of the two.
"""

import compileall
import shutil
import sysconfig
import venv
from pathlib import Path

from tests.tools import ROOT


def install(folder: Path) -> Path:
    """Puts the package into a new environment, with what this one has beside it; returns its
    Python."""
    environment = folder / "venv"
    venv.create(environment, symlinks=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "scpatch", packages / "scpatch", ignore=ignored)
    compileall.compile_dir(packages, quiet=1)
    # The folder, without the .pth files in it: they are what an editable installation adds.
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return environment / "bin" / "python"


def package(python: Path) -> Path:
    """The folder of the package in the environment of such a Python."""
    (found,) = python.parent.parent.glob("lib/python*/site-packages/scpatch")
    return found
