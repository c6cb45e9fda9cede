"""`sightline train` as it is typed: what it prints, what it refuses, and what the next commands make of its folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from sightline.cli.main import main
from sightline.demo.scenes import CLASSES, scenes


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    for number, scene in enumerate(scenes(30, 7)):
        (folder / CLASSES[scene.label]).mkdir(exist_ok=True)
        Image.fromarray(scene.image).save(folder / CLASSES[scene.label] / f"{number}.png")
    return folder


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def typed(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sightline", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            main()
        said = capsys.readouterr()
        return int(left.value.code or 0), said.out, said.err

    return typed


def test_a_folder_is_trained_on_explained_and_searched_for_errors(run, shapes: Path, tmp_path: Path) -> None:
    code, said, told = run(
        "train", shapes, "--model", "small-cnn", "--epochs", 2, "--out", tmp_path / "run", "--no-report"
    )
    assert code == 0
    assert "small-cnn: 6 classes, 24 train + 6 val; all" in told
    assert told.count("epoch ") == 2
    assert "validation accuracy" in said
    assert f"--model {tmp_path / 'run'}" in said
    photo = next(shapes.rglob("*.png"))
    code, said, _ = run("explain", photo, "--model", tmp_path / "run", "--out", tmp_path / "why", "--json")
    assert code == 0
    assert {p["label"] for p in next(iter(next(iter(json.loads(said)["predictions"].values())).values()))} <= {*CLASSES}
    assert run("errors", shapes, "--model", tmp_path / "run", "--out", tmp_path / "errors", "--worst", 0)[0] == 0


def test_json_is_one_object(run, shapes: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    code, said, _ = run("train", shapes, "--model", "small-cnn", "--epochs", 1, "--out", out, "--no-report", "--json")
    data = json.loads(said)
    assert code == 0
    assert (data["ended"], data["epochs"], data["images"]) == ("finished", 1, {"train": 24, "val": 6})


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["--epochs", "1"], "no model came"),
        (["--model", "small-cmm"], "there is no model 'small-cmm'. Did you mean small-cnn"),
        (["--model", "small-cnn", "--freeze", "feature"], "Did you mean features?"),
        (["--model", "small-cnn", "--freeze", "99"], "so nothing would be learned"),
        (["--model", "small-cnn", "--augment", "turn"], "augment: 'turn'; wanted all, none"),
        (["--model", "small-cnn", "--lr", "nan"], "lr=nan: wanted"),
        (["--preset", "mnist"], "there is no preset 'mnist'"),
        (["--model", "small-cnn", "--resume"], "holds no training that could be resumed"),
        (["--model", "mnist1d-cnn"], "series"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(run, shapes: Path, tmp_path: Path, words: list[str], wanted: str) -> None:
    code, _, told = run("train", shapes, *words, "--out", tmp_path / "run")
    assert code == 2
    assert wanted in told
    assert "Traceback" not in told
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_unreadable_pictures_are_listed_and_the_rest_is_learned_from(run, shapes: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "two" / name).mkdir(parents=True)
        for number, photo in enumerate(sorted(shapes.rglob("*.png"))[:4]):
            Image.open(photo).rotate(90 * number + (name == "b")).save(tmp_path / "two" / name / photo.name)
    (tmp_path / "two" / "a" / "broken.jpg").write_text("no picture")
    words = ["--model", "small-cnn", "--epochs", 1, "--no-report", "--out", tmp_path / "run"]
    code, _, told = run("train", tmp_path / "two", *words)
    assert code == 2
    assert "broken.jpg is not an image" in told
    assert (tmp_path / "run" / "sightline.json").is_file()


def test_a_preset_can_be_changed_in_one_number(run, tmp_path: Path) -> None:
    words = ["--steps-per-epoch", 2, "--epochs", 1, "--no-report", "--out", tmp_path / "run"]
    assert run("train", "mnist1d", *words)[0] == 0
    asked = json.loads((tmp_path / "run" / "run.json").read_text())["settings"]
    assert (asked["steps_per_epoch"], asked["epochs"], asked["optimizer"], asked["lr"]) == (2, 1, "sgd", 0.01)


def test_a_folder_inside_the_data_is_no_place_for_the_results(run, shapes: Path) -> None:
    code, _, told = run("train", shapes, "--model", "small-cnn", "--out", shapes / "run")
    assert code == 2
    assert "would become a class" in told
    assert not (shapes / "run").exists()


def test_what_ended_before_its_first_epoch_can_be_begun_anew(run, shapes: Path, tmp_path: Path) -> None:
    words = ["train", shapes, "--model", "small-cnn", "--epochs", 1, "--no-report", "--out", tmp_path / "run"]
    code, _, told = run(*words, "--lr", "1e20", "--optimizer", "sgd")
    assert code == 2
    assert "not one epoch had ended" in told
    assert "what was learned" not in told
    assert run(*words)[0] == 0
    code, _, told = run(*words)
    assert (code, "add --resume" in told, "what was learned" in told) == (2, True, False)


def test_a_size_is_given_once(run, shapes: Path, tmp_path: Path) -> None:
    words = ["--model", "small-cnn", "--image-size", 64, "--preprocess", "resize=80,crop=72", "--out", tmp_path / "run"]
    code, _, told = run("train", shapes, *words)
    assert code == 2
    assert "came together" in told


def test_a_damaged_record_of_a_training_is_said(run, shapes: Path, tmp_path: Path) -> None:
    words = ["train", shapes, "--model", "small-cnn", "--epochs", 1, "--no-report", "--out", tmp_path / "run"]
    assert run(*words)[0] == 0
    (tmp_path / "run" / "run.json").write_text("{")
    code, _, told = run(*words, "--resume")
    assert code == 2
    assert "is not what a training writes" in told
