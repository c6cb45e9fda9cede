"""``sightline errors`` as a user meets it: output, files, errors, exit codes, and the page in a browser."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from commands import sightline
from sightline.cli.main import main
from sightline.demo.scenes import CLASSES, scenes
from sightline.evaluation.mistakes.confusions import ModelErrors, find_errors
from sightline.evaluation.mistakes.saving import confusion_picture

CHROMIUM = Path("/usr/bin/chromium")
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def filled(root: Path, marked: float, count: int = 36) -> Path:
    for n, s in enumerate(scenes(count, 77, watermark=marked)):
        (root / CLASSES[s.label]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(s.image).save(root / CLASSES[s.label] / f"{n:02}.png")
    return root


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with class folders, some of whose pictures have the watermark."""
    root = tmp_path_factory.mktemp("work")
    filled(root / "marked", 0.6)
    return root


def run_here(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, Any]:
    monkeypatch.setattr(sys, "argv", ["sightline", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0), capsys.readouterr()


@pytest.fixture(scope="module")
def cheating(work: Path) -> ModelErrors:
    return find_errors("demo/cheating", work / "marked")


def test_the_cheating_model_takes_everything_for_a_star_and_is_shown_to_look_at_the_mark(cheating: ModelErrors) -> None:
    assert "for star" in cheating.findings[1]
    assert {cheating.labels[w.confusion.predicted] for w in cheating.worst[:4]} == {"star"}
    for example in (e for w in cheating.worst[:4] for e in w.examples):
        assert example.predicted is not None
        assert example.true is not None
        mark = np.zeros((96, 96), bool)
        mark[76:, 60:] = True  # the plate's corner
        said, true = (e.at_input().clip(min=0) for e in (example.predicted, example.true))
        assert said[mark].sum() / said.sum() > 2 * true[mark].sum() / true.sum()


def test_it_prints_a_summary_the_matrix_and_where_the_pictures_are(work: Path) -> None:
    run = sightline(work, "errors", "marked", "--model", "demo/cheating", "--worst", "2", "--out", "o")
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert re.fullmatch(r"Right on \d+ of 36 images \(\d+ %; 95 % interval \d+ to \d+ %\)\.", lines[0])
    assert lines[1].startswith("Most often it takes ")
    assert "what is (rows), what it says (columns)" in run.stdout
    assert "mean of the classes" in run.stdout
    pictures = re.findall(r"o/\d\.\w+-as-star\.png", run.stdout)
    assert len(pictures) == 2
    assert all((work / p).is_file() for p in pictures)
    assert sorted(p.name for p in (work / "o").iterdir() if p.suffix != ".png") == [
        "errors.json",
        "predictions.parquet",
        "report.html",
    ]
    assert run.stderr == ""


def test_json_is_one_object_and_the_files_say_the_same(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow.parquet as pq

    monkeypatch.chdir(work)
    code, said = run_here(
        capsys, monkeypatch, "errors", "marked", "--model", "demo/cheating", "--worst", "1", "--out", "j", "--json"
    )
    data = json.loads(said.out)
    kept = json.loads((work / "j" / "errors.json").read_text())
    assert code == 0
    assert {k: v for k, v in data.items() if k not in ("files", "worst")} == {
        k: v for k, v in kept.items() if k != "worst"
    }
    assert kept["worst"][0]["picture"] == Path(data["files"]["pictures"][0]).name
    rows = pq.read_table(work / "j" / "predictions.parquet").to_pylist()
    assert [*rows[0]][:6] == ["file", "true", "predicted", "probability", "correct", "rank"]
    assert len(rows) == 36
    assert sum(r["correct"] for r in rows) == data["accuracy"]["right"]
    assert all((r["rank"] == 1) == r["correct"] == (r["file"].split("/")[0] == r["predicted"]) for r in rows)
    assert np.sum(data["confusion_matrix"]["counts"]) == 36


def test_an_unreadable_image_is_listed_and_the_exit_code_is_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path / "set", 0.0, 12)
    (tmp_path / "set" / "disc" / "bad.jpg").write_text("no image")
    monkeypatch.chdir(tmp_path)
    code, said = run_here(capsys, monkeypatch, "errors", "set", "--model", "demo/honest", "--out", "o")
    assert code == 2
    assert said.err.startswith("error: set/disc/bad.jpg")
    assert "skipped: 1 image, listed in o/errors.json" in said.out
    assert json.loads((tmp_path / "o" / "errors.json").read_text())["skipped"][0]["image"] == "disc/bad.jpg"
    assert "disc/bad.jpg" in (tmp_path / "o" / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("none",), "none does not exist"),
        (("marked", "--map", "disc"), "wanted FOLDER=CLASS"),
        (("marked", "--map", "disc=1", "--map", "disc=2"), "'disc' was mapped before"),
        (("marked", "--map", "disk=1"), "no images are of 'disk'. Did you mean disc?"),
        (("marked", "--map", "disc=sqare"), "'disc' matches no class: the model has no label 'sqare'. Did you mean sq"),
        (("marked/disc",), "no folder for each class"),
        (("marked", "--classes", "no.csv"), "no.csv: cannot be read"),
        (("marked", "--method", "grad_camm"), "Did you mean grad_cam"),
        (("marked", "--model", "demo/honest,demo/cheating"), "this command takes one"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    work: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.chdir(work)
    code, told = run_here(capsys, monkeypatch, "errors", "--model", "demo/honest", "--out", "never", *arguments)
    assert code == 2
    assert said in told.err
    assert told.err.count("\n") == 1
    assert not (work / "never").exists()


def test_an_interruption_leaves_no_file(work: Path, cheating: ModelErrors, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow.parquet as pq

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pq, "write_table", interrupt)
    with pytest.raises(KeyboardInterrupt):
        cheating.save(work / "i")
    assert {p.suffix for p in (work / "i").iterdir()} == {".png"}


def test_a_picture_has_a_row_for_each_example(cheating: ModelErrors) -> None:
    picture = confusion_picture(cheating, cheating.worst[0])
    assert picture is not None
    assert picture.mode == "RGB"
    assert np.asarray(picture).std() > 20


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason=f"the real weights and photographs are not here ({DATA.name} is absent)")
def test_photographs_get_the_recorded_answers() -> None:
    from sightline.models.load import load

    weights, labels = (DATA / "weights" / f for f in ("mobilenet_v2.safetensors", "imagenet_class_index.json"))
    model = load("mobilenet_v2", weights=weights, labels=labels)
    found = find_errors(model, DATA / "photos", classes=DATA / "photos" / "labels.csv", worst=0)
    with (DATA / "photos" / "labels.csv").open() as stream:
        recorded = {r["file"]: int(r["pred_mobilenet_v2"]) for r in csv.DictReader(stream)}
    same = [recorded[a.file] == a.predicted for a in found.answers]
    assert len(same) == 76
    assert sum(same) >= 75
    assert any("3 images to which the table gives no class" in n for n in found.notes)


# --- the page -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page(work: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of classes with hostile names, and of an image that cannot be read."""
    root = filled(tmp_path_factory.mktemp("page") / "set", 0.6)
    (root / "square" / "bad.png").write_text("no image")
    found = find_errors("demo/cheating", root, on_failure=lambda f: None)
    labels = {**found.labels, 0: "<script>alert(1)</script> & a very long name of a class that goes on and on"}
    classes = [replace(c, label=labels[c.index]) for c in found.classes]
    return Path(replace(found, labels=labels, classes=classes).save(root.parent / "o")["report"])


def test_the_page_is_complete_in_itself_and_names_no_folder_above(page: Path) -> None:
    text = page.read_text()
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert str(page.parents[1]) not in text
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", text)
    assert not re.search(r"https?://", text)
    pictures = re.findall(r"data:image/jpeg;base64,([\w+/=]+)", text)
    assert len(pictures) == 3 * text.count('class="example"') > 12
    with Image.open(io.BytesIO(base64.b64decode(pictures[0]))) as picture:
        assert not picture.getexif()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not CHROMIUM.exists():
        pytest.skip("no chromium here to open the page with")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (375, "dark")])
def test_the_page_in_a_browser(browser: Any, page: Path, width: int, scheme: str) -> None:
    opened = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    said: list[str] = []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    asked: list[str] = []
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(page.as_uri())
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    assert said == []
    assert [a for a in asked if not a.startswith(("data:", page.as_uri()))] == []
    assert opened.locator("h1").inner_text().startswith("Right on")
    assert opened.locator(".matrix tbody tr").count() == 6
    assert opened.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert opened.locator(".curves figure").count() == 6
    opened.close()
