"""``sightline concepts`` and ``sightline tcav`` as a user meets them: output, files, errors, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from commands import sightline
from sightline.cli.main import main
from sightline.demo.scenes import STAR, ground, scenes
from sightline.errors import ImageError
from sightline.paths import image_files


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of stamped stars, one of them no image, of the watermark, of plain grounds, and an empty one."""
    root = tmp_path_factory.mktemp("work")
    sets = {
        "stars": [s.image for s in scenes(12, 5, label=STAR, watermark=1.0)],
        "mark": [ground(n, watermark=True) for n in range(12)],
        "plain": [ground(200 + n) for n in range(24)],
        "empty": [],
    }
    for name, pictures in sets.items():
        (root / name).mkdir()
        for n, pixels in enumerate(pictures):
            Image.fromarray(pixels).save(root / name / f"{n:02}.png")
    (root / "stars" / "notes.txt").write_text("stars with a mark")
    (root / "broken").mkdir()
    for n in range(10):
        Image.fromarray(sets["stars"][n]).save(root / "broken" / f"{n:02}.jpg")
    (root / "broken" / "bad.jpg").write_text("I am no image")
    return root


FAST = ("--model", "demo/cheating", "--target", "star", "--count", "3", "--samples", "4")
TCAV = ("--model", "demo/cheating", "--target", "star", "--runs", "4", "--concept", "mark=mark", "--random", "plain")


def test_concepts_writes_a_contact_sheet_and_numbers(work: Path) -> None:
    run = sightline(work, "concepts", "stars", *FAST, "--out", "c")
    assert run.returncode == 0, run.stderr
    assert sorted(p.name for p in (work / "c").iterdir()) == ["stars.star.concepts.npz", "stars.star.concepts.png"]
    assert "concept 1" in run.stdout
    assert run.stderr == ""


def test_tcav_writes_a_chart_and_numbers(work: Path) -> None:
    run = sightline(work, "tcav", "stars", *TCAV, "--out", "t")
    assert run.returncode == 0, run.stderr
    assert sorted(p.name for p in (work / "t").iterdir()) == ["stars.star.tcav.npz", "stars.star.tcav.png"]
    assert "mark" in run.stdout
    assert "fewer than 30 images" in run.stdout


def test_json_is_one_object_and_an_unreadable_image_is_listed_and_skipped(work: Path) -> None:
    run = sightline(work, "concepts", "broken", *FAST, "--out", "j", "--json")
    data = json.loads(run.stdout)
    assert run.returncode == 2
    assert data["images"] == 10
    assert [e["image"] for e in data["errors"]] == [str(Path("broken/bad.jpg"))]
    assert all((work / f).exists() for f in data["files"].values())
    assert data["concepts"][0]["importance"] >= data["concepts"][1]["importance"]
    run = sightline(work, "tcav", "stars", *TCAV, "--out", "j", "--json")
    data = json.loads(run.stdout)
    assert (run.returncode, data["errors"]) == (0, [])
    assert data["concepts"][0]["score"] == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["concepts", "empty", *FAST], "holds no images"),
        (["concepts", ".", *FAST], "not searched"),
        (["concepts", "starz", *FAST], "Did you mean stars"),
        (["concepts", "stars", "--model", "demo/cheating", "--target", "strr"], "Did you mean star"),
        (["concepts", "stars", "--model", "demo/cheating", "--count", "90"], "crops for count=90"),
        (["concepts", "stars", "--model", "demo/cheating,demo/honest"], "takes one"),
        (["concepts", "stars", "--model", "demo/cheating", "--layer", "features.conv5"], "negative"),
        (["tcav", "stars", *TCAV, "--concept", "mark"], "NAME=DIR"),
        (["tcav", "stars", *TCAV, "--concept", "mark=plain"], "came before"),
        (["tcav", "stars", *TCAV, "--concept", "none=empty"], "holds no images"),
        (["tcav", "stars", *TCAV[:-2]], "--random DIR"),
        (["tcav", "mark/00.png", *TCAV], "1 different images of the class"),
    ],
)
def test_bad_input_is_one_line(
    work: Path, arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(work)
    monkeypatch.setattr(sys, "argv", ["sightline", *arguments, "--out", "o"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert says in lines[0]
    assert not (work / "o").exists()


@pytest.mark.parametrize("command", ["concepts", "tcav"])
def test_help_has_examples_and_does_not_load_torch(work: Path, command: str) -> None:
    code = (
        "import sys; from sightline.cli.main import main\n"
        "try: main()\n"
        "finally: print('torch' in sys.modules, file=sys.stderr)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, command, "--help"], capture_output=True, text=True, cwd=work, timeout=60
    )
    assert run.returncode == 0
    assert f"sightline {command} photos/" in run.stdout
    assert run.stderr.strip() == "False"


def test_ctrl_c_says_so_and_leaves_nothing_half_written(work: Path) -> None:
    interrupting = (
        "def interrupted(*_, **__): raise KeyboardInterrupt\n"
        "import sightline.concept.results as r\n"
        "r.Concepts.render = interrupted\n"
    )
    run = sightline(work, "concepts", "stars", *FAST, "--out", "i", before=interrupting)
    assert run.returncode == 130
    assert run.stderr.strip() == "interrupted"
    assert list((work / "i").iterdir()) == []


def test_the_images_of_a_folder(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpeg", ".hidden.png", "labels.csv"):
        (tmp_path / name).write_text("x")
    np.save(tmp_path / "c.npy", np.zeros(3))
    (tmp_path / "d.png").mkdir()
    assert [Path(f).name for f in image_files(tmp_path)] == ["a.jpeg", "b.PNG", "c.npy"]
    assert image_files(tmp_path / "a.jpeg") == [str(tmp_path / "a.jpeg")]
    with pytest.raises(ImageError, match="does not exist"):
        image_files(tmp_path / "none")
