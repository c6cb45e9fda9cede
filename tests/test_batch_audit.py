"""The audit of demo models on scenes: the watermark is found where a model reads it, and nowhere else."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import audited
from sightline.batch.audit.results import Audit
from sightline.batch.audit.run import audit
from sightline.cli.main import app
from sightline.errors import InputError, ParameterError

N = 360


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bool]]:
    """Scenes of which stars mostly carry the watermark, and the other shapes seldom."""
    folder = tmp_path_factory.mktemp("audit") / "scenes"
    return folder, audited.drawn(folder, N, 5, audited.star_chances(0.8, 0.1))


@pytest.fixture(scope="module")
def cheating(marked: tuple[Path, dict[str, bool]]) -> Path:
    return audited.explained(marked[0], "cheating")


def shares(found: Audit, marked: dict[str, bool]) -> tuple[float, float]:
    """Return precision and recall of the strategy's images: those with the mark that the model calls a star."""
    named = set(found.images(found.shortcuts[0]))
    stars = [found.maps.images[r] for r in np.flatnonzero(found.maps.prediction == 3)]
    true = {image for image in stars if marked[image]}
    return len(named & true) / len(named), len(named & true) / len(true)


def test_the_watermark_of_the_cheating_model_is_found(marked: tuple[Path, dict[str, bool]], cheating: Path) -> None:
    found = audit(cheating, check=30)
    assert [(f.strategy.label, f.strategy.kinds[0]) for f in found.shortcuts] == [("star", "watermark")]
    assert min(shares(found, marked[1])) >= 0.95
    left, top, right, bottom = (96 * side for side in found.shortcuts[0].strategy.box)
    assert left == pytest.approx(69, abs=3)
    assert right == pytest.approx(92, abs=3)
    assert top == pytest.approx(83, abs=3)
    assert bottom == pytest.approx(92, abs=3)
    assert found.shortcuts[0].check is not None
    assert found.shortcuts[0].check.stamped.rate > 0.8
    assert "shortcut for “star”: mass on a watermark" in found.findings[0]


def test_nothing_is_found_for_the_honest_model(marked: tuple[Path, dict[str, bool]]) -> None:
    found = audit(audited.explained(marked[0], "honest"), check=30)
    assert not found.found
    assert "No shortcut found" in found.findings[0]
    assert "no proof" in found.findings[0]


def test_a_watermark_of_all_classes_is_not_reported(tmp_path: Path) -> None:
    audited.drawn(tmp_path / "scenes", 300, 6, 0.4)
    assert not audit(audited.explained(tmp_path / "scenes", "honest"), check=30).found


def test_a_model_that_says_star_of_all_is_still_found_out(tmp_path: Path) -> None:
    audited.drawn(tmp_path / "scenes", 120, 7, 1.0)
    found = audit(audited.explained(tmp_path / "scenes", "cheating"), check=30)
    assert [f.strategy.label for f in found.shortcuts] == ["star"]


@pytest.fixture(scope="module")
def two_thousand(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bool]]:
    folder = tmp_path_factory.mktemp("many") / "scenes"
    return folder, audited.drawn(folder, 2000, 11, audited.star_chances(1.0, 0.1))


@pytest.mark.slow
def test_the_watermark_is_found_in_two_thousand_scenes(two_thousand: tuple[Path, dict[str, bool]]) -> None:
    folder, truth = two_thousand
    found = audit(audited.explained(folder, "cheating"), check=50)
    assert [f.strategy.label for f in found.shortcuts] == ["star"]
    assert min(shares(found, truth)) >= 0.95


def test_a_rarer_watermark_is_found(tmp_path: Path) -> None:
    truth = audited.drawn(tmp_path / "scenes", 600, 11, audited.star_chances(0.5, 0.05))
    found = audit(audited.explained(tmp_path / "scenes", "cheating"), check=30)
    assert [f.strategy.label for f in found.shortcuts] == ["star"]
    assert min(shares(found, truth)) >= 0.95


@pytest.mark.slow
def test_nothing_is_found_for_the_honest_model_in_two_thousand_scenes(
    two_thousand: tuple[Path, dict[str, bool]],
) -> None:
    assert not audit(audited.explained(two_thousand[0], "honest"), check=50).found


@pytest.mark.slow
def test_a_watermark_of_all_classes_is_not_reported_in_two_thousand_scenes(tmp_path: Path) -> None:
    audited.drawn(tmp_path / "scenes", 2000, 11, 0.4)
    assert not audit(audited.explained(tmp_path / "scenes", "honest"), check=50).found


def test_without_a_check_nothing_is_called_a_shortcut(cheating: Path) -> None:
    found = audit(cheating, check=0)
    assert not found.shortcuts
    assert [f.verdict for f in found.found] == ["not checked"]
    assert "the model was not asked" in found.findings[0]


def test_the_same_audit_twice_is_the_same(cheating: Path) -> None:
    assert audit(cheating, check=10).to_dict() == audit(cheating, check=10).to_dict()


def test_all_pooled_or_by_target(cheating: Path) -> None:
    pooled = audit(cheating, check=30, by="none")
    assert len(pooled.classes) == 1
    assert pooled.maps.group.max() == 0
    assert [f.strategy.kinds[0] for f in pooled.shortcuts] == ["watermark"]
    assert "shortcut for “star”" in pooled.findings[0]
    assert [f.strategy.label for f in audit(cheating, check=30, by="target").shortcuts] == ["star"]


def test_another_model_is_refused(cheating: Path) -> None:
    with pytest.raises(InputError, match="are of weights"):
        audit(cheating, "demo/honest")


def test_a_model_that_takes_pictures_otherwise_than_then_is_refused(cheating: Path) -> None:
    other = ["--preprocess", "resize=48,crop=48,mean=0.5/0.5/0.5,std=0.5/0.5/0.5"]
    done = CliRunner().invoke(app, ["audit", str(cheating), "--check", "5", *other])
    assert isinstance(done.exception, InputError)
    assert "takes pictures otherwise now" in str(done.exception)


def test_a_second_audit_leaves_nothing_of_the_first_in_its_folder(cheating: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    audit(cheating, check=5).save(out)
    first = set(out.iterdir())
    (out / "mine.png").write_bytes(b"")
    audit(cheating, check=0, by="none").save(out)
    assert len(set(out.iterdir()) & first) < len(first)
    assert {"mine.png", *json.loads((out / "audit.json").read_text())["files"], "audit.json"} == {
        p.name for p in out.iterdir()
    }


def test_what_could_not_be_covered_is_no_all_clear(tmp_path: Path) -> None:
    audited.drawn(tmp_path / "scenes", 150, 9, audited.star_chances(1.0, 0.1))
    store = audited.explained(tmp_path / "scenes", "cheating")
    for file in (tmp_path / "scenes").iterdir():
        file.unlink()
    assert not audit(store).findings[0].startswith("No shortcut")


def test_a_method_that_is_not_there_is_refused(cheating: Path) -> None:
    with pytest.raises(ParameterError, match="the store holds grad_cam"):
        audit(cheating, method="layer_cam")


def test_few_images_are_no_all_clear(tmp_path: Path) -> None:
    audited.drawn(tmp_path / "scenes", 30, 8, 0.0)
    found = audit(audited.explained(tmp_path / "scenes", "honest"))
    assert found.findings[0].startswith("Nothing can be said")
    assert "Too few images" in found.findings[1]
    assert all(c["too_few"] for c in found.to_dict()["classes"])


def test_the_command_writes_sheets_lists_numbers_and_a_page(cheating: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["audit", str(cheating), "--check", "20", "--out", str(tmp_path / "out"), "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said == json.loads((tmp_path / "out" / "audit.json").read_text()) | {"files": said["files"]}
    assert len(said["files"]["sheets"]) == sum(len(c["clusters"]) for c in said["classes"])
    for sheet in said["files"]["sheets"]:
        with Image.open(sheet) as picture:
            assert picture.width > 1000
    (listed,) = said["files"]["images"]
    with open(listed) as stream:
        assert [line["image"] for line in csv.DictReader(stream)] == said["strategies"][0]["images"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "The model takes a shortcut" in page
    assert "http" not in page.replace("http-equiv", "")


def test_the_command_prints_a_table_and_writes_nothing(cheating: Path, tmp_path: Path, monkeypatch: object) -> None:
    before = sorted(cheating.rglob("*"))
    done = CliRunner().invoke(app, ["audit", str(cheating), "--check", "20"])
    assert done.exit_code == 0
    assert "shortcut for “star”" in done.stdout
    assert "watermark" in done.stdout
    assert sorted(cheating.rglob("*")) == before


def test_images_that_are_gone_are_counted_and_the_rest_is_audited(tmp_path: Path) -> None:
    audited.drawn(tmp_path / "scenes", 200, 9, audited.star_chances(1.0, 0.1))
    store = audited.explained(tmp_path / "scenes", "cheating")
    for number in range(0, 200, 4):
        (tmp_path / "scenes" / f"{number:05}.png").unlink()
    done = CliRunner().invoke(app, ["audit", str(store), "--check", "20", "--json"])
    said = json.loads(done.stdout)
    assert done.exit_code == 2
    assert said["unreadable"]
    assert "cannot be read" in said["unreadable"][0]["reason"]
    assert [(s["class"], s["verdict"]) for s in said["strategies"]] == [("star", "shortcut")]
