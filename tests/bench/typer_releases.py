"""Compares the start-up of typer releases, each in its own virtual environment."""

import subprocess
import sys
from pathlib import Path

from tests.bench import report
from tests.bench.measure import Command, memory_floor, side_by_side

RELEASES = ("==0.24.2", "")  # the one in use, and the newest
APP = """
import sys
import typer
app = typer.Typer()
@app.command()
def hello(name: str = "") -> None: ...
@app.command()
def bye(name: str = "") -> None: ...
sys.argv = ["app", "hello"]
app()
"""
ROUNDS = 21


def typer_section(folder: Path) -> list[str]:
    """A table of a small application's run with each release, without pip's output."""
    commands = []
    for number, release in enumerate(RELEASES):
        python = folder / f"venv{number}" / "bin" / "python"
        subprocess.run([sys.executable, "-m", "venv", python.parents[1]], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", f"typer{release}"]
        subprocess.run(install, check=True, stdout=sys.stderr)
        asked = "import importlib.metadata as m; print(m.version('typer'))"
        version = subprocess.run(
            [python, "-c", asked], capture_output=True, text=True, check=True
        ).stdout.strip()
        if number == 0:
            commands.append(Command("python -c pass", (str(python), "-c", "pass")))
        commands.append(Command(f"typer {version}", (str(python), "-c", APP)))
    results = side_by_side(commands, ROUNDS)
    lines = ["", "## Start-up by typer release", "", "An application of two commands, one run:", ""]
    return [*lines, *report.table(results, "python -c pass", memory_floor())]
