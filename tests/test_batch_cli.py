"""``sightline batch`` as a user meets it: what it prints, where, and its exit codes."""

from __future__ import annotations

import contextlib
import io
import json
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from batches import job_of, rows, same, scenes
from sightline.batch.run import How, run
from sightline.batch.store import Settings, open_store, writing
from sightline.cli.main import main

KEYS = {
    "store",
    "images",
    "explained",
    "rows",
    "already",
    "duplicates",
    "failed",
    "failed_before",
    "parts",
    "seconds",
    "failures",
}


class Said(NamedTuple):
    """What a command answered."""

    code: int
    out: str
    err: str


Call = Callable[..., Said]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Run the command line in this process, in a folder with four scenes in ``photos``."""
    scenes(tmp_path / "photos", 4)
    monkeypatch.chdir(tmp_path)

    def called(*arguments: str) -> Said:
        out, err = io.StringIO(), io.StringIO()
        monkeypatch.setattr(sys, "argv", ["sightline", "batch", *arguments])
        before = signal.getsignal(signal.SIGINT)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as end:
            main()
        signal.signal(signal.SIGINT, before)
        return Said(int(end.value.code or 0), out.getvalue(), err.getvalue())

    return called


USUAL = ("--model", "demo/honest", "--out", "store", "--workers", "0", "--heatmap-size", "8")


def test_a_run_its_resumption_and_what_they_say(call: Call) -> None:
    first = call("photos", *USUAL)
    assert (first.code, first.err) == (0, "")
    assert first.out.startswith("4 images: 4 explained; 4 new rows\n")
    assert re.search(r'^[0-9.]+ s → store   \(sightline query store "SELECT \.\.\."\)\n$', first.out.split("\n", 1)[1])
    assert "\033" not in first.out
    assert call("photos", *USUAL).out.startswith("4 images: 0 explained, 4 there already; 0 new rows\n")
    assert call("photos", *USUAL, "--resume").out.startswith("4 images: 0 explained, 4 there already; 0 new rows\n")
    assert len(rows("store")) == 4


def test_sentences_of_one_and_of_many(call: Call, tmp_path: Path) -> None:
    one = call("photos/000.png", *USUAL)
    assert one.out.startswith("1 image: 1 explained; 1 new row\n")
    (tmp_path / "photos/again.png").write_bytes((tmp_path / "photos/001.png").read_bytes())
    two = call("photos", *USUAL)
    assert two.out.startswith("5 images: 3 explained, 1 there already, 1 duplicate of others; 3 new rows\n")


def test_what_fails_is_said_and_the_exit_code_is_2(call: Call, tmp_path: Path) -> None:
    for number in range(25):
        (tmp_path / f"photos/bad{number:02}.png").write_text("no")
    said = call("photos", *USUAL)
    assert said.code == 2
    assert said.out.startswith("29 images: 4 explained, 25 failed; 29 new rows\n")
    lines = said.err.splitlines()
    assert len(lines) == 21
    assert all(line.startswith("error: ") for line in lines)
    assert "bad00.png" in lines[0]
    assert lines[-1] == "error: 5 more failed; see the column error of the store."


def test_json_is_one_object_whatever_happens(call: Call, tmp_path: Path) -> None:
    (tmp_path / "photos/bad\n.png").write_text("no")
    said = call("photos", *USUAL, "--json")
    found = json.loads(said.out)
    assert (said.code, said.err, said.out.count("\n")) == (2, "", 1)
    assert found.keys() == KEYS
    assert {k: found[k] for k in ("images", "explained", "rows", "failed", "parts")} == {
        "images": 5,
        "explained": 4,
        "rows": 5,
        "failed": 1,
        "parts": 1,
    }
    assert [f.keys() for f in found["failures"]] == [{"image", "message"}]
    assert found["failures"][0]["image"].endswith("bad\n.png")
    wrong = call("nowhere", *USUAL, "--json")
    assert wrong.code == 2
    assert json.loads(wrong.out)["errors"][0]["message"].startswith("nowhere: no such file")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--batch-size", "0"), "--batch-size 0: wanted a whole number from 1 on, or auto."),
        (("--batch-size", "x"), "--batch-size x: wanted"),
        (("--batch-size", "²"), "--batch-size ²: wanted"),
        (("--workers", "-1"), "Invalid value for '--workers': "),
        (("--method", "grad_camm"), "Did you mean grad_cam"),
        (("--metrics", "deletoin"), "Did you mean deletion"),
        (("--set", "grad_cam.nope=1"), "nope"),
        (("--heatmap-size", "4"), "Invalid value for '--heatmap-size': "),
        (("--engine", "dask"), "'dask' is not one of"),
        (("--out", "photos"), "photos holds other files and no store; name another --out."),
        (("--out", ""), "an empty name came for the store"),
        (("--out", "/"), "/ holds other files"),
        (("--out", "photos/000.png"), "photos/000.png is a file"),
        (("--out", "nosuch://a"), "nosuch"),
        (("--nope",), "No such option"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_before_the_model_is_loaded(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...], said: str
) -> None:
    monkeypatch.setattr("sightline.cli.batch.load_model", None)
    found = call("photos", *USUAL, *more)
    assert (found.code, found.out) == (2, "")
    assert said in found.err
    assert found.err.count("\n") == 1
    assert found.err.startswith("error: ")
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nowhere", *USUAL), "nowhere: no such file, folder or pattern"),
        (("photos/*.gif", *USUAL), "photos/*.gif"),
        (("photos", *USUAL, "--model", "demo/honset"), "demo/hon"),
        (("photos", *USUAL, "--model", "demo/honest,demo/cheating"), "2 models came; this command takes one"),
        (("photos", *USUAL, "--target", "nope"), "nope"),
        (("photos", *USUAL, "--target", "top1,top1"), "one came twice"),
        (("photos", *USUAL, "--layer", "nope"), "nope"),
        (("photos", "--out", "store"), "--model"),
    ],
)
def test_what_no_image_could_make_right_is_one_line(call: Call, arguments: tuple[str, ...], said: str) -> None:
    found = call(*arguments)
    assert (found.code, found.out) == (2, "")
    assert said in found.err.splitlines()[-1]
    assert "Traceback" not in found.err


def test_a_store_of_another_kind_is_refused(call: Call, tmp_path: Path) -> None:
    assert call("photos", *USUAL).code == 0
    before = rows("store")
    assert "holds heatmaps of 8x8; heatmaps of 16x16 came" in call("photos", *USUAL, "--heatmap-size", "16").err
    assert "and raw attributions came" in call("photos", *USUAL, "--raw").err
    settings = json.loads((tmp_path / "store/store.json").read_text())
    (tmp_path / "store/store.json").write_text(json.dumps({**settings, "format": 9}))
    for more in ((), ("--resume",)):
        assert "newer version of Sightline (format 9, this one reads 1)" in call("photos", *USUAL, *more).err
    (tmp_path / "store/store.json").write_text(json.dumps(settings))
    assert same(rows("store"), before)


def test_a_store_that_another_run_holds(call: Call) -> None:
    with writing("store", Settings((8, 8))):
        found = call("photos", *USUAL)
    assert (found.code, found.out) == (2, "")
    said = (
        r"error: store is being written by another run \(process \d+\); wait for it with --wait, or name another .*\n"
    )
    assert re.fullmatch(said, found.err)
    assert call("photos", *USUAL, "--wait").code == 0
    assert call("photos", *USUAL, "--wait").out.startswith("4 images: 0 explained, 4 there already")


def test_ctrl_c_is_130_and_what_was_whole_is_kept(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def pressed(*arguments: object, **options: object) -> None:
        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr("sightline.batch.run.batch_size_of", pressed)
        found = call("photos", *USUAL)
    assert (found.code, found.out, found.err) == (130, "", "interrupted\n")
    assert call("photos", *USUAL, "--resume").out.startswith("4 images: 4 explained; 4 new rows\n")


def test_the_command_line_and_python_make_the_same_rows(call: Call, tmp_path: Path) -> None:
    call("photos", *USUAL, "--method", "grad_cam,gradient", "--target", "top2,0", "--batch-size", "2")
    job = job_of(None, "grad_cam", "gradient", targets=("top2", 0))
    run("photos", job, "again", How(workers=0, batch_size=2))
    assert same(rows("store"), rows("again"))
    assert open_store("store").commits[0].about["batch_size"] == 2


def test_a_store_whose_name_has_to_be_quoted(call: Call) -> None:
    found = call("photos", *USUAL, "--out", "my store")
    assert "(sightline query 'my store' \"SELECT" in found.out


def test_help_shows_examples_that_can_be_parsed(call: Call) -> None:
    found = call("--help")
    assert found.code == 0
    examples = re.findall(r"^ +sightline batch .*", found.out, re.MULTILINE)
    assert len(examples) >= 4
    assert all("--model" in e and "--out" in e for e in examples)
    for option in ("--resume", "--wait", "--workers", "--batch-size", "--raw", "--heatmap-size", "--engine"):
        assert option in found.out
