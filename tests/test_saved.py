"""What was written is read again as it was; what is damaged, foreign or newer is a sentence."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import browsed
from sightline.errors import InputError
from sightline.evaluation.mistakes.reading import read_errors
from sightline.evaluation.reading import read_evaluation
from sightline.evaluation.report.lines import mean_curves
from sightline.evaluation.report.verdicts import verdicts
from sightline.training.history import write_history
from sightline.training.reading import read_training
from trainings import epochs


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("reports")
    browsed.mistakes(root), browsed.trust(root), browsed.trained(root)
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """Return a copy that a test may damage."""
    return Path(shutil.copytree(made, tmp_path / "reports"))


def change(file: Path, act: Callable[[dict], object]) -> None:
    data = json.loads(file.read_text())
    act(data)
    file.write_text(json.dumps(data))


# --- errors -------------------------------------------------------------------------------------------------


def test_errors_are_read_as_they_were_saved(made: Path) -> None:
    found = read_errors(made / "mistakes")
    said = json.loads((made / "mistakes" / "errors.json").read_text())
    assert list(found.findings) == said["findings"]
    assert len(found.answers) == 18
    assert found.accuracy["total"] == 18
    assert len(found.wrong) == 18 - found.accuracy["right"]
    assert [a.probability for a in found.wrong] == sorted((a.probability for a in found.wrong), reverse=True)
    assert sum(map(sum, found.matrix)) == 18


def test_an_explained_error_leads_to_its_picture(made: Path) -> None:
    found = read_errors(made / "mistakes")
    explained = [w for a in found.wrong if (w := found.explained(a)) is not None]
    assert len(explained) == 2
    assert all(w.picture is not None and w.picture.parent == made / "mistakes" for w in explained)


def test_a_picture_elsewhere_is_none_of_the_report(root: Path) -> None:
    (root / "secret.png").write_bytes(b"x")
    os.symlink(root / "secret.png", root / "mistakes" / "link.png")
    names = iter(["../secret.png", "link.png"])
    change(root / "mistakes" / "errors.json", lambda d: [w.update(picture=next(names)) for w in d["worst"]])
    assert [w.picture for w in read_errors(root / "mistakes").worst] == [None, None]


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (lambda d: d.pop("findings"), "no 'findings'"),
        (lambda d: d.update(accuracy=None), "not what this version of sightline errors writes"),
        (lambda d: d["confusion_matrix"].update(counts=[[1]]), "another shape"),
        (lambda d: d.update(worst=[{}]), "no 'examples'"),
        (lambda d: d.update(classes="all"), "update sightline"),
    ],
)
def test_foreign_errors_are_a_sentence(root: Path, act: Callable[[dict], object], said: str) -> None:
    change(root / "mistakes" / "errors.json", act)
    with pytest.raises(InputError, match=said):
        read_errors(root / "mistakes")


def test_damaged_files_are_a_sentence_without_the_machines_path(root: Path) -> None:
    file, table = root / "mistakes" / "errors.json", root / "mistakes" / "predictions.parquet"
    table.write_bytes(table.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"^mistakes/predictions.parquet cannot be read as Parquet") as caught:
        read_errors(root / "mistakes")
    pq.write_table(pa.table({"file": ["a.png"]}), table)
    with pytest.raises(InputError, match=r"predictions\.parquet"):
        read_errors(root / "mistakes")
    file.write_text(file.read_text()[:100])
    with pytest.raises(InputError, match=r"^mistakes/errors.json cannot be read as JSON"):
        read_errors(root / "mistakes")
    file.write_text("[" * 100_000)
    with pytest.raises(InputError, match="cannot be read as JSON"):
        read_errors(root / "mistakes")
    assert str(root) not in str(caught.value)


# --- evaluations --------------------------------------------------------------------------------------------


def test_an_evaluation_is_read_with_its_cards_and_judged_alike(made: Path) -> None:
    saved = read_evaluation(made / "trust")
    assert saved.finished
    assert saved.found.cost["measured"] == 6
    assert [v.method for v in verdicts(saved.found)]
    assert set(saved.found.controls) == {
        "random",
        "edges",
        "centre",
        "constant",
    }
    assert {c.method for c in saved.cards} == {"grad_cam", "gradient"}
    assert all(c.card.headline.startswith("Can this map be believed?") for c in saved.cards)
    curves = mean_curves(saved.found)["insertion"]
    assert curves["grad_cam"][0, 0] == 0
    assert curves["grad_cam"][-1, 0] == 1
    assert any("watermark" in line for line in saved.found.findings)


def test_an_evaluation_under_way_shows_what_it_has(root: Path) -> None:
    (root / "trust" / "evaluation.json").unlink()
    saved = read_evaluation(root / "trust")
    assert not saved.finished
    assert saved.found.cost == saved.found.cost | {"asked": 6, "measured": 6}
    assert saved.found.cost["seconds_by_method"]["grad_cam"] > 0
    for part in sorted((root / "trust" / "parts").iterdir())[1:]:
        part.unlink()
    assert read_evaluation(root / "trust").found.cost["measured"] == 1
    shutil.rmtree(root / "trust" / "parts")
    with pytest.raises(InputError, match="nothing was measured"):
        read_evaluation(root / "trust")


def test_a_newer_evaluation_is_a_sentence(root: Path) -> None:
    rows = pq.read_table(root / "trust" / "results.parquet").to_pylist()
    rows[0]["method"] = "map_of_tomorrow"
    pq.write_table(pa.Table.from_pylist(rows), root / "trust" / "results.parquet")
    with pytest.raises(InputError, match="map_of_tomorrow, which this version does not know"):
        read_evaluation(root / "trust")


def test_an_evaluation_with_strange_values_is_a_sentence(root: Path) -> None:
    rows = pq.read_table(root / "trust" / "results.parquet").to_pylist()
    pq.write_table(pa.Table.from_pylist([r | {"value": "high"} for r in rows]), root / "trust" / "results.parquet")
    with pytest.raises(InputError, match="no number"):
        read_evaluation(root / "trust")


def test_a_card_with_an_unknown_verdict_is_a_sentence(root: Path) -> None:
    change(root / "trust" / "evaluation.json", lambda d: d["cards"][0]["card"]["answers"][0].update(verdict="maybe"))
    with pytest.raises(InputError, match="unknown verdict"):
        read_evaluation(root / "trust")


# --- trainings ----------------------------------------------------------------------------------------------


def test_a_training_is_read_from_its_card(made: Path) -> None:
    run = read_training(made / "greys")
    assert run.state == "finished"
    assert run.best is not None
    assert run.best.epoch == run.card["training"]["kept_epoch"]
    assert run.notes == ["2 images are in both parts."]
    assert run.ended.endswith("of 6 epochs")
    assert run.data["name"] == "shades"


def test_a_training_that_runs_is_told_from_one_that_was_broken_off(tmp_path: Path) -> None:
    out = browsed.begin(tmp_path / "run")
    run = read_training(out)
    assert (run.state, run.best, run.rows) == ("running", None, ())
    write_history(epochs(3), out / "history.csv")
    run = read_training(out)
    assert run.state == "running"
    assert run.ended == "running, 3 of 6 epochs done"
    assert run.best is not None
    assert run.best.epoch == 3
    later = read_training(out, now=run.changed + 3600)
    assert later.state == "broken off"


def test_a_training_that_is_gone_on_with_runs_again(root: Path) -> None:
    card = (root / "greys" / "model-card.json").stat().st_mtime
    os.utime(root / "greys" / "history.csv", (card + 5, card + 5))
    assert read_training(root / "greys", now=card + 6).state == "running"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("run.json", '{"settings": {', "cannot be read as JSON"),
        ("run.json", '{"settings": {}}', "no 'data'"),
        ("run.json", "[]", "wanted an object"),
        ("history.csv", "epoch,loss\n1,0.5\n", "no 'accuracy'"),
        ("history.csv", "epoch,loss,accuracy,val_loss,val_accuracy,lr,seconds\n1,a,1,1,1,1,1\n", "could not convert"),
        ("model-card.json", "{}", "no 'training'"),
        ("model-card.json", '{"training": ', "cannot be read as JSON"),
    ],
)
def test_a_damaged_training_is_a_sentence(root: Path, name: str, text: str, said: str) -> None:
    (root / "greys" / name).write_text(text)
    os.utime(root / "greys" / "history.csv", (1e9, 1e9))
    with pytest.raises(InputError, match=said) as caught:
        read_training(root / "greys")
    assert "\n" not in str(caught.value)
    assert str(root) not in str(caught.value)
