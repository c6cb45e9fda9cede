"""What the README shows is run: its commands and its snippets, each in a process of its own."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import urllib.request
from pathlib import Path

import pytest
from PIL import Image

import apps
from commands import python, sightline
from sightline.demo.story import save_scenes

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^sightline .+$", TEXT.replace("\\\n", " "), re.MULTILINE)
SNIPPETS = re.findall(r"```python\n(.+?)```", TEXT, re.DOTALL)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A directory as it is after ``make demo``."""
    save_scenes(tmp_path / "demo-output")
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    return tmp_path


def succeeded(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def run(work: Path, command: str) -> None:
    """Run a command of one line as a shell takes it apart."""
    succeeded(sightline(work, *shlex.split(command, comments=True)[1:]))


def opened(work: Path, command: str) -> None:
    """Start the app as a command of the README does, and wait until it answers."""
    with apps.started(["bash", "-c", f"exec {command} --port $PORT"], work) as address:
        assert urllib.request.urlopen(f"{address}/_stcore/health").read() == b"ok"


def test_eight_things_are_shown_each_as_a_command_and_a_snippet() -> None:
    assert len(SNIPPETS) == 8
    assert len(COMMANDS) >= 8


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme_runs(work: Path, command: str) -> None:
    if command.startswith("sightline app"):
        opened(work, command.partition("#")[0].strip())
        return
    first = next(c for c in COMMANDS if c.endswith("--out store"))
    if " store" in command and command != first:  # what asks a store comes after what made it
        run(work, first)
    run(work, command)


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_a_snippet_of_the_readme_runs(work: Path, snippet: str) -> None:
    succeeded(python(work, snippet))


def test_the_picture_is_there_and_every_link_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (ROOT / target).exists(), target
    with Image.open(ROOT / "docs" / "images" / "demo.png") as picture:
        assert picture.width > 800
