"""Makes every build of a version the same bytes; pyproject.toml has the rest."""

from __future__ import annotations

import os

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel

# The first day that a zip file can name.
os.environ.setdefault("SOURCE_DATE_EPOCH", "315532800")


class Wheel(bdist_wheel):
    """A wheel without the modes that the umask has left on the files."""

    def write_wheelfile(self, *arguments: str) -> None:
        """Called last, when all other files are in place."""
        super().write_wheelfile(*arguments)
        for folder, _, names in os.walk(self.bdist_dir):
            for path in (os.path.join(folder, name) for name in names):
                os.chmod(path, 0o755 if os.stat(path).st_mode & 0o100 else 0o644)


setup(cmdclass={"bdist_wheel": Wheel})
