"""What a training leaves beside its bundle: numbers, card and page say the same, of files, pictures and series."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from reports import Page
from sightline.errors import InputError
from sightline.training.data import Part
from sightline.training.job import Told
from sightline.training.report import write_results
from sightline.training.run import Training
from sightline.training.settings import TrainSettings
from trainings import CLASSES, Flat, epochs, pictures, series, training, undrawn

# Two of black and grey are not what they are said to be; white is always found.
LEVELS, LABELS = [0, 9, 120, 128, 10, 140, 255, 250, 230], [0, 0, 0, 1, 1, 1, 2, 2, 2]
TOLD = Told()
_undrawn = pytest.fixture(undrawn)


def written(run: Training, **options: Any) -> Training:
    return write_results(run, TOLD, **options)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank methods on two images only, which is enough where the ranking is not the question."""
    monkeypatch.setattr("sightline.training.report._RANKED", 2)


def texts(out: Path) -> dict[str, str]:
    kinds = (".html", ".md", ".json")
    return {
        str(f.relative_to(out)): f.read_text() for f in out.rglob("*") if f.suffix in kinds and f.name != "run.json"
    }


@pytest.fixture(scope="module")
def shades(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a training on pictures that has both parts."""
    out = tmp_path_factory.mktemp("secret-place") / "greys run"
    val, test = pictures(LEVELS, LABELS), pictures([0, 5, 100, 130, 255, 130], [0, 0, 1, 1, 2, 2])
    skipped = ({"image": "/home/ann/shades/broken.png", "reason": "/home/ann/shades/broken.png is no image"},)
    done = written(training(out, val, test, skipped=skipped, notes=("2 images are in both parts.",)))
    assert done.test_accuracy == pytest.approx(5 / 6)
    return out


def test_the_numbers_are_those_of_sklearn_on_the_same_answers(shades: Path) -> None:
    card = json.loads((shades / "model-card.json").read_text())
    for part in ("validation", "test"):
        rows = pq.read_table(shades / part / "predictions.parquet").to_pylist()
        true, said = ([r[k] for r in rows] for k in ("true_index", "predicted_index"))
        found, of_card = json.loads((shades / part / "errors.json").read_text()), card["results"][part]
        assert found["confusion_matrix"]["counts"] == confusion_matrix(true, said).tolist()
        assert found["accuracy"]["share"] == of_card["accuracy"]["share"] == accuracy_score(true, said)
        assert of_card["macro"]["f1"] == pytest.approx(f1_score(true, said, average="macro"))
        assert of_card["majority"] == max(map(true.count, true)) / len(true)
        page = Page((shades / "report.html").read_text())
        assert f"{100 * accuracy_score(true, said):.1f} %" in page.text.replace("\u00a0", " ")


def test_the_page_says_first_what_it_comes_to_and_every_section_is_there(shades: Path) -> None:
    page = Page((shades / "report.html").read_text())
    said = page.text.replace("\u00a0", " ")
    assert "Right on 5 of 6 test images (83.3 %; 95 % interval 44 to 97 %)" in said
    assert "Right on 7 of 9 validation images (77.8 %; 95 % interval 45 to 94 %), by which the weights were" in said
    assert "It learned for 4 epochs, as asked; the weights of epoch 3 were kept." in said
    anchors = [a["href"][1:] for a in page.all("a") if a["href"].startswith("#")]
    ids = [s.get("id") for s in page.all("section")]
    assert [a for a in anchors if a != "content"] == ids
    assert {"curves", "confusions", "worst", "classes", "roc", "methods", "limits", "on"} <= {*ids}
    for link in (a["href"] for a in page.all("a") if not a["href"].startswith("#")):
        assert (shades / link).exists(), link
    assert len(page.all("img")) >= 3
    assert "sightline explain IMAGE --model 'greys run'" in said


def test_no_file_holds_a_path_of_the_machine(shades: Path) -> None:
    for name, text in texts(shades).items():
        assert "/home/ann" not in text, name
        assert "secret-place" not in text, name
    assert "greys@greys.pt" in (shades / "model-card.json").read_text()


def test_the_card_says_what_is_known(shades: Path) -> None:
    card, said = json.loads((shades / "model-card.json").read_text()), (shades / "model-card.md").read_text()
    again = training(
        shades.parent / "again", pictures(LEVELS, LABELS), pictures([0, 5, 100, 130, 255, 130], [0, 0, 1, 1, 2, 2])
    )
    assert card["data"]["hash"] == again.data.hash
    assert f"`{again.data.hash}`" in said
    assert card["model"]["weights_hash"] == again.model.weights_hash
    assert card["data"]["images_by_class"] == {"train": [3, 3, 3], "val": [3, 3, 3], "test": [2, 2, 2]}
    assert "| black | 3 | 3 | 2 |" in said
    assert "broken.png: broken.png is no image" in said
    assert "2 images are in both parts." in said
    assert any("best of 4 epochs by validation accuracy" in t for t in card["limits"])
    assert any("The validation part has 9 images: one of them is 11.1 points" in t for t in card["limits"])
    assert any("in the training: 1 file" in t for t in card["limits"])
    assert "sightline explain IMAGE --model 'greys run'" in said


def test_the_pictures_are_there_and_large_enough_to_project(shades: Path) -> None:
    for name in ("curves.png", "validation/roc.png", "test/roc.png"):
        with Image.open(shades / name) as drawn:
            assert min(drawn.size) >= 900


@pytest.mark.usefixtures("_undrawn")
def test_files_are_called_by_their_place_below_the_folder(tmp_path: Path) -> None:
    files = []
    for n, (level, label) in enumerate(zip(LEVELS, LABELS, strict=True)):
        file = tmp_path / "data" / CLASSES[label] / f"{n}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (level,) * 3).save(file)
        files.append(str(file))
    val = Part(files, np.array(LABELS))
    hashes = {f: f"{n:064}" for n, f in enumerate(files)}
    written(training(tmp_path / "run", val, folder=str(tmp_path / "data"), hashes=hashes), report=False)
    named = [r["file"] for r in pq.read_table(tmp_path / "run" / "validation" / "predictions.parquet").to_pylist()]
    assert named == [f"{CLASSES[label]}/{n}.png" for n, label in enumerate(LABELS)]
    assert all(str(tmp_path) not in text for text in texts(tmp_path / "run").values())


@pytest.mark.usefixtures("few")
def test_series_are_drawn_and_called_series(tmp_path: Path) -> None:
    done = written(training(tmp_path / "run", series([0, 0.1, 0.4, 0.5, 0.9, 1, 0.1, 1], [0, 0, 0, 1, 2, 2, 1, 2])))
    said = Page((tmp_path / "run" / "report.html").read_text()).text
    assert "Right on 6 of 8 validation series" in said
    assert "validation images" not in said
    assert "number 6" in said
    assert done.test_accuracy is None
    assert len(list((tmp_path / "run" / "validation").glob("*-as-*.png"))) == 2
    assert "| validation | 8 | 75.0 % |" in (tmp_path / "run" / "model-card.md").read_text()


@pytest.mark.usefixtures("few")
def test_a_perfect_model_after_one_epoch_has_no_errors_to_explain(tmp_path: Path) -> None:
    val = pictures([0, 5, 128, 130, 255, 250], [0, 0, 1, 1, 2, 2])
    written(training(tmp_path / "run", val, rows=epochs(1)))
    said = Page((tmp_path / "run" / "report.html").read_text()).text.replace("\u00a0", " ")
    assert "Right on 6 of 6 validation images (100.0 %" in said
    assert "There is no error to explain." in said
    assert "It made no mistake on these images." in said
    assert "It learned for 1 epoch, as asked; the weights of epoch 1 were kept." in said
    limits = json.loads((tmp_path / "run" / "model-card.json").read_text())["limits"]
    assert not any("best of" in t for t in limits)
    assert any("There is no test part" in t for t in limits)


@pytest.mark.usefixtures("few")
def test_what_refuses_the_model_is_named_and_the_page_is_written(tmp_path: Path) -> None:
    told: list[str] = []
    run = training(tmp_path / "run", pictures(LEVELS, LABELS), module=Flat())
    write_results(run, Told(note=told.append))
    said = Page((tmp_path / "run" / "report.html").read_text()).text
    assert "Not explained: Flat has no layer with positions" in said
    assert "grad_cam; layer_cam: Flat has no layer with positions" in said
    assert any("no layer with positions" in t for t in told)
    assert "not clearly better than always saying the most frequent class" in (run.out / "model-card.md").read_text()


@pytest.mark.usefixtures("_undrawn")
def test_methods_that_cannot_be_measured_are_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sightline.training.report._BUDGET", 1e-9)
    written(training(tmp_path / "run", pictures(LEVELS, LABELS)))
    said = Page((tmp_path / "run" / "report.html").read_text()).text
    assert "No method could be measured: a budget of 1e-09 s is too small" in said
    assert not (tmp_path / "run" / "methods").exists()


@pytest.mark.usefixtures("_undrawn")
@pytest.mark.parametrize(
    ("ended", "why", "said"),
    [
        ("interrupted", "", "The training was interrupted, and may not have learned all it could."),
        ("loss not finite", "the loss is NaN at step 7", "no longer finite (the loss is NaN at step 7)."),
    ],
)
def test_how_it_ended_is_in_the_card(tmp_path: Path, ended: str, why: str, said: str) -> None:
    run = training(tmp_path / "run", pictures(LEVELS, LABELS), ended=ended, why=why)
    written(run, report=ended == "interrupted")  # which explains nothing, whatever is asked
    assert any(said in t for t in json.loads((run.out / "model-card.json").read_text())["limits"])
    assert not (run.out / "report.html").exists()


def test_without_a_report_the_numbers_the_curves_and_the_card_stay(tmp_path: Path) -> None:
    steps: list[tuple[str, int]] = []
    run = training(tmp_path / "run", pictures(LEVELS, LABELS), settings=TrainSettings(model="m", restore_best=False))
    write_results(run, Told(stage=lambda name, count: steps.append((name, count))), report=False)
    assert steps == [("validation", 9)]
    assert {f.name for f in run.out.iterdir()} == {
        "run.json", "curves.png", "model-card.json", "model-card.md", "validation"
    }  # fmt: skip
    assert not list((run.out / "validation").glob("*-as-*.png"))


def test_what_cannot_be_written_leaves_no_half_a_file(tmp_path: Path) -> None:
    run = training(tmp_path / "run", pictures(LEVELS, LABELS))
    (run.out / "model-card.md").mkdir()
    with pytest.raises(InputError, match=r"model-card\.md cannot be written"):
        written(run, report=False)
    assert not [f for f in run.out.rglob("*") if ".part" in f.name]
    assert math.isfinite(json.loads((run.out / "model-card.json").read_text())["results"]["validation"]["majority"])
