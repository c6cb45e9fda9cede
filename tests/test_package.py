"""What is installed: data files, metadata, types; files written whole or not at all."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata, resources
from pathlib import Path

import pytest

from sightline.errors import InputError, SightlineError, suggest
from sightline.output import written

ROOT = Path(__file__).resolve().parents[1]


def test_the_demo_weights_and_the_type_marker_are_installed() -> None:
    package = resources.files("sightline")
    assert package.joinpath("py.typed").is_file()
    for name in ("honest", "cheating"):
        assert 100_000 < len(package.joinpath("demo", "weights", f"{name}.safetensors").read_bytes()) < 1 << 20


def test_every_pin_is_exact_and_every_dependency_is_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[\w.+-]+", pin) for pin in pins)
    pinned = {_plain(pin.partition("==")[0]) for pin in pins}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(d for ds in project["optional-dependencies"].values() for d in ds)]
    names = {_plain(re.split(r"[\[<>=; ]", d)[0]) for d in wanted} - {"sightline"}
    assert names <= pinned
    assert "torch==2.13.0" in pins


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_version_is_the_projects() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert metadata.version("sightline") == project["version"]


def test_no_file_outgrows_400_lines() -> None:
    long = {p.name: n for p in ROOT.glob("src/**/*.py") if (n := len(p.read_text().splitlines())) > 400}
    assert not long


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        _interrupted(tmp_path / "deep" / "a.txt")
    assert list((tmp_path / "deep").iterdir()) == []
    with written(tmp_path / "deep" / "a.txt") as aside:
        aside.write_text("whole")
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["a.txt"]


def _interrupted(file: Path) -> None:
    with written(file) as aside:
        aside.write_text("half")
        raise KeyboardInterrupt


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot be written"), written(tmp_path / "file" / "a.png") as aside:
        aside.write_text("never")


def test_errors_form_a_tree_and_suggest() -> None:
    assert issubclass(InputError, SightlineError)
    assert issubclass(InputError, ValueError)
    assert suggest("gradcam", ["grad_cam", "gradient"]) == " Did you mean grad_cam?"
    assert suggest("xyz", ["grad_cam"]) == ""
