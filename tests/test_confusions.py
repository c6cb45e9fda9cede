"""What a model gets wrong: the numbers against hand-made cases and brute force, and the whole on tiny models."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from sightline.errors import ImageError, InputError, ParameterError, RefusedError, TargetError
from sightline.evaluation.mistakes.classification import (
    calibration,
    class_numbers,
    confusion_matrix,
    confusions,
    means,
    ranks,
    wilson,
)
from sightline.evaluation.mistakes.confusions import ModelErrors, find_errors
from sightline.geometry import Preprocessing
from sightline.models.load import load
from sightline.models.model import Model

WHOLE = Preprocessing(resize=None, crop=None, mean=(0.0,) * 3, std=(1.0,) * 3)


def drawn(seed: int, images: int = 60, classes: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return classes, predictions and probabilities, of which some are equal."""
    rng = np.random.default_rng(seed)
    truths = rng.integers(0, classes, images)
    raw = np.round(rng.random((images, classes)) + 0.7 * np.eye(classes)[truths], 1) + 0.1
    chances = raw / raw.sum(1, keepdims=True)
    return truths, chances.argmax(1), chances


def names(count: int) -> dict[int, str]:
    return {i: f"class {i}" for i in range(count)}


# --- numbers ------------------------------------------------------------------------------------------------


def test_precision_recall_and_f1_are_what_counting_gives() -> None:
    truths, said, chances = drawn(0)
    for c in class_numbers(truths, said, chances, names(4)):
        hits = sum(t == s == c.index for t, s in zip(truths, said, strict=True))
        assert (c.support, c.predicted) == (sum(truths == c.index), sum(said == c.index))
        assert c.precision == pytest.approx(hits / c.predicted)
        assert c.recall == pytest.approx(hits / c.support)
        assert c.f1 == pytest.approx(2 * hits / (c.predicted + c.support))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_auc_is_the_share_of_pairs_in_the_right_order_and_ties_count_half(seed: int) -> None:
    truths, said, chances = drawn(seed)
    for c in class_numbers(truths, said, chances, names(4)):
        own, others = chances[truths == c.index, c.index], chances[truths != c.index, c.index]
        gaps = own[:, None] - others[None, :]
        assert c.auc == pytest.approx(((gaps > 0) + 0.5 * (gaps == 0)).mean())


def test_average_precision_is_the_mean_precision_at_each_image_that_is_found() -> None:
    truths = np.array([1, 0, 1, 0])
    chances = np.array([[0.1, 0.9], [0.3, 0.7], [0.4, 0.6], [0.8, 0.2]])
    found = class_numbers(truths, chances.argmax(1), chances, {1: "b"})[0]
    assert found.average_precision == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert found.auc == pytest.approx(3 / 4)


def test_chance_gives_half_and_the_truth_gives_one() -> None:
    rng = np.random.default_rng(3)
    truths = rng.integers(0, 2, 4000)
    guessed = rng.random((4000, 1)) * [1, 0] + [0, 0.5]
    sure = np.eye(2)[truths]
    assert class_numbers(truths, guessed.argmax(1), guessed, {0: "a"})[0].auc == pytest.approx(0.5, abs=0.03)
    assert class_numbers(truths, truths, sure, {0: "a"})[0].auc == 1.0


def test_what_is_undefined_is_nan_and_no_mean_takes_it_for_a_number() -> None:
    truths, said = np.array([0, 0, 1, 1]), np.array([0, 0, 0, 0])
    chances = np.tile([0.8, 0.2], (4, 1))
    first, second = class_numbers(truths, said, chances, names(2))
    assert math.isnan(second.precision)  # nothing is said to be it
    assert (second.recall, second.f1) == (0.0, 0.0)
    assert means([first, second], weighted=False).precision == first.precision == 0.5
    only = class_numbers(np.zeros(4, int), said, chances, {0: "a"})[0]
    assert math.isnan(only.auc)
    assert math.isnan(only.average_precision)
    assert only.to_dict()["auc"] is None
    assert only.recall == 1.0


def test_means_over_classes_and_over_images() -> None:
    truths, said, chances = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]), np.eye(2)[[0, 0, 1, 1]]
    classes = class_numbers(truths, said, chances, names(2))
    assert means(classes, weighted=False).recall == pytest.approx((2 / 3 + 1) / 2)
    assert means(classes, weighted=True).recall == pytest.approx(3 / 4)  # which is the accuracy


@pytest.mark.parametrize(("right", "total"), [(0, 5), (3, 10), (412, 496), (7, 7)])
def test_the_interval_is_wilsons(right: int, total: int) -> None:
    z, p = 1.959963984540054, right / total
    middle = (p + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    found = wilson(right, total)
    assert (found.low, found.high) == pytest.approx((middle - half, middle + half), abs=1e-12)
    assert found.low <= found.share <= found.high


def test_calibration_by_hand_and_zero_for_honest_answers() -> None:
    found = calibration(np.array([1, 1, 0, 1, 0]) > 0, np.array([0.95, 0.95, 0.95, 0.55, 1.0]))
    assert [b.count for b in found.bins] == [0, 0, 0, 0, 0, 1, 0, 0, 0, 4]
    assert found.error == pytest.approx((1 * 0.45 + 4 * (0.9625 - 0.5)) / 5)
    honest = calibration(np.array([1, 1, 1, 0]) > 0, np.full(4, 0.75))
    assert honest.error == pytest.approx(0)
    assert math.isnan(honest.bins[0].accuracy)


def test_the_matrix_has_a_row_for_classes_with_images_and_columns_for_all_that_was_said() -> None:
    rows, columns, counts = confusion_matrix(np.array([0, 0, 2, 2]), np.array([0, 5, 2, 0]))
    assert (rows, columns) == ([0, 2], [0, 2, 5])
    assert counts.tolist() == [[1, 0, 1], [1, 1, 0]]
    assert confusion_matrix(np.array([3]), np.array([3]))[2].tolist() == [[1]]


def test_confusions_come_by_how_often_and_then_by_how_sure() -> None:
    truths, said = np.array([0, 0, 1, 1, 2, 2]), np.array([1, 1, 0, 1, 0, 1])
    found = confusions(truths, said, np.array([0.6, 0.9, 0.7, 1.0, 0.8, 0.8]))
    assert [(c.true, c.predicted, c.count) for c in found] == [(0, 1, 2), (2, 0, 1), (2, 1, 1), (1, 0, 1)]
    assert found[0].rows == (1, 0)


def test_the_rank_is_one_exactly_where_the_class_is_predicted() -> None:
    truths, said, chances = drawn(5)
    assert ((ranks(truths, chances) == 1) == (truths == said)).all()
    assert ranks(np.array([2]), np.array([[0.5, 0.3, 0.2]])).tolist() == [3]


def test_the_order_of_images_changes_no_number() -> None:
    truths, said, chances = drawn(6)
    order = np.random.default_rng(0).permutation(len(truths))
    one, other = (
        [c.to_dict() for c in class_numbers(t, s, p, names(4))]
        for t, s, p in ((truths, said, chances), (truths[order], said[order], chances[order]))
    )
    assert one == other


# --- the whole ----------------------------------------------------------------------------------------------


class Greys(nn.Module):
    """Says of a picture that is grey level k which of the levels 0, 0.5, 1 is nearest."""

    def __init__(self, outputs: int = 3) -> None:
        super().__init__()
        self.outputs = outputs
        self.batches: list[int] = []
        self.pool = nn.Conv2d(3, 1, 1, bias=False)
        nn.init.constant_(self.pool.weight, 1 / 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(x))
        level = self.pool(x).mean((1, 2, 3))
        if self.outputs == 1:
            return (20 * (level - 0.5)).unsqueeze(1)
        return -20 * (level.unsqueeze(1) - torch.linspace(0, 1, self.outputs)) ** 2


def greys(outputs: int = 3, **options: object) -> Model:
    return load(Greys(outputs), preprocessing=WHOLE, **options)  # type: ignore[arg-type]


@pytest.fixture
def shades(tmp_path: Path) -> Path:
    """Black, grey and white pictures; one grey and two white ones are not what their folder says."""
    levels = {"black": [0, 9, 20], "grey": [128, 120, 30], "white": [255, 250, 100, 140]}
    for name, values in levels.items():
        (tmp_path / "set" / name).mkdir(parents=True)
        for n, value in enumerate(values):
            Image.new("RGB", (6, 5), (value,) * 3).save(tmp_path / "set" / name / f"{n}.png")
    return tmp_path / "set"


NAMES = ["black", "grey", "white"]


def test_the_answers_are_the_models_and_the_worst_confusion_is_explained_both_ways(shades: Path) -> None:
    found = find_errors(greys(labels=NAMES), shades, method="gradient", worst=1)
    assert (found.accuracy.right, found.accuracy.total) == (7, 10)
    assert found.matrix.tolist() == [[3, 0, 0], [1, 2, 0], [0, 2, 2]]
    assert found.findings[:2] == [
        "Right on 7 of 10 images (70 %; 95 % interval 40 to 89 %).",
        "Most often it takes white for grey (twice, of 4 images of white).",
    ]
    assert len(found.worst) == 1
    first = found.worst[0].examples[0]
    assert first.answer.file == "white/3.png"  # 140 is nearer to grey than 100 is
    assert first.predicted is not None
    assert first.true is not None
    assert (first.predicted.target.label, first.true.target.label) == ("grey", "white")
    chances = torch.softmax(-20 * (140 / 255 - torch.linspace(0, 1, 3, dtype=torch.float64)) ** 2, 0)
    assert first.answer.probability == pytest.approx(float(chances[1]), rel=1e-5)
    assert first.answer.true_probability == pytest.approx(float(chances[2]), rel=1e-5)
    assert first.answer.rank == 2


def test_each_batch_is_one_forward_and_its_size_changes_nothing(shades: Path) -> None:
    module = Greys()
    model = load(module, preprocessing=WHOLE, labels=NAMES)
    one = find_errors(model, shades, worst=0, batch_size=4)
    assert module.batches == [4, 4, 2]
    other = find_errors(model, shades, worst=0, batch_size=1)
    assert one.answers == other.answers
    assert one.to_dict() == other.to_dict()


def test_one_output_is_two_classes(shades: Path) -> None:
    found = find_errors(greys(1), shades, mapping={"black": "0", "grey": "0", "white": "1"}, method="gradient")
    assert found.matrix.tolist() == [[5, 1], [1, 3]]
    assert any("the model has one output" in n for n in found.notes)
    assert found.labels == {0: "black", 1: "white"}
    assert all(e.predicted is not None and e.true is not None for w in found.worst for e in w.examples)


def test_one_class_only_leaves_undefined_what_is(shades: Path, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (shades / "grey").rename(tmp_path / "one" / "grey")
    found = find_errors(greys(labels=NAMES), tmp_path / "one", worst=0)
    assert found.classes[0].recall == pytest.approx(2 / 3)
    assert math.isnan(found.classes[0].auc)
    assert any(n.startswith("all images are of one class") for n in found.notes)
    assert any("2 of the model's 3 classes have no images" in n for n in found.notes)
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_model_without_names_takes_the_folders_and_one_of_other_classes_is_refused(shades: Path) -> None:
    assert find_errors(greys(), shades, in_order=True, worst=0).labels == {0: "black", 1: "grey", 2: "white"}
    with pytest.raises(TargetError, match="3 folders came in alphabetical order for a model of 5 classes"):
        find_errors(greys(5), shades, in_order=True)
    with pytest.raises(TargetError, match="'white' is class 7, but the model has 3 classes"):
        find_errors(greys(), shades, mapping={"black": "0", "grey": "1", "white": "7"})


def test_images_that_cannot_be_read_are_skipped_and_the_rest_keep_their_classes(shades: Path) -> None:
    (shades / "black" / "0.png").write_text("no image")
    told: list[object] = []
    found = find_errors(greys(labels=NAMES), shades, worst=0, on_failure=lambda f: told.append(f.image))
    assert [s["image"] for s in found.skipped] == ["black/0.png"]
    assert len(told) == 1
    assert found.matrix.tolist() == [[2, 0, 0], [1, 2, 0], [0, 2, 2]]
    with pytest.raises(ImageError, match=r"0\.png"):
        find_errors(greys(labels=NAMES), shades)


def test_no_image_at_all_is_a_sentence(shades: Path) -> None:
    for file in shades.rglob("*.png"):
        file.write_text("no image")
    with pytest.raises(InputError, match="none of the images could be predicted"):
        find_errors(greys(labels=NAMES), shades, on_failure=lambda f: None)


def test_an_output_that_is_nan_is_no_answer(shades: Path) -> None:
    def broken(x: torch.Tensor) -> torch.Tensor:
        level = x.mean((1, 2, 3))
        return torch.stack([torch.where(level > 0.9, torch.nan, level), 1 - level, level], 1)

    found = find_errors(load(broken, labels=NAMES, preprocessing=WHOLE), shades, worst=0, on_failure=lambda f: None)
    assert [s["image"] for s in found.skipped] == ["white/0.png", "white/1.png"]
    assert "NaN" in found.skipped[0]["reason"]
    assert found.accuracy.total == 8


def test_a_method_that_refuses_the_model_leaves_the_numbers(shades: Path) -> None:
    function: Callable[[torch.Tensor], torch.Tensor] = Greys()
    model = load(lambda x: function(x), labels=NAMES, preprocessing=WHOLE)
    found = find_errors(model, shades, method="attention_rollout", on_failure=lambda f: None)
    assert found.accuracy.right == 7
    assert [s["image"] for s in found.skipped] == [None]
    assert "attention_rollout" in found.skipped[0]["reason"]
    assert all(e.predicted is None and e.true is None for w in found.worst for e in w.examples)
    with pytest.raises(RefusedError):
        find_errors(model, shades, method="attention_rollout")


def test_a_limit_is_drawn_by_the_seed_and_the_global_state_is_left_alone(shades: Path) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    first, again, other = (
        [a.file for a in find_errors(greys(labels=NAMES), shades, limit=4, seed=s, worst=0).answers] for s in (0, 0, 5)
    )
    assert first == again != other
    assert len(first) == 4
    torch.manual_seed(0)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"limit": 0}, "limit=0"),
        ({"worst": -1}, "worst=-1"),
        ({"examples": 0}, "examples=0"),
        ({"method": "gradient,occlusion"}, "2 methods came"),
        ({"method": "grad_camm"}, "Did you mean grad_cam"),
        ({"parameters": {"stepps": 3}}, "stepps"),
    ],
)
def test_what_cannot_be_asked_is_a_sentence(shades: Path, options: dict[str, object], said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        find_errors(greys(labels=NAMES), shades, **options)  # type: ignore[arg-type]


def test_what_is_no_better_than_chance_is_said_so(shades: Path) -> None:
    found = find_errors(greys(labels=NAMES[::-1]), shades, worst=0)
    assert found.accuracy.right == 2  # of the grey ones
    assert "not clearly better than always saying the most frequent class, which is right in 40 %" in found.findings[-1]


def test_two_classes_of_one_name_are_told_apart(shades: Path) -> None:
    found = find_errors(greys(labels=["grey", "grey", "white"]), shades, mapping={"black": "0", "grey": "1"}, worst=0)
    assert found.labels == {0: "grey (0)", 1: "grey (1)", 2: "white"}


def test_no_error_is_said_so(shades: Path) -> None:
    for wrong in ("grey/2.png", "white/2.png", "white/3.png"):
        (shades / wrong).unlink()
    found: ModelErrors = find_errors(greys(labels=NAMES), shades)
    assert found.findings[1] == "It made no mistake on these images."
    assert (found.worst, found.confusions) == ([], [])
    assert replace(found, notes=("x",)).to_dict()["notes"] == ["x"]
