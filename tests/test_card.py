"""The trust card: what it says of good maps, of controls, of what cannot be checked; how it is kept and shown."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import commands
import sightline
from nets import BinaryNet, ConvNet, DenseNet, SignalNet, VolumeNet
from sightline import targets
from sightline.cli.explain import entry
from sightline.demo.scenes import scene
from sightline.errors import ParameterError
from sightline.evaluation.card import MARKS, Answer, TrustCard, answered
from sightline.evaluation.checking import HOW
from sightline.evaluation.measure import measure
from sightline.models.load import load
from sightline.render.checks import Check, Checks, checks_block
from sightline.render.sheet import Room

PICTURES = [scene(i).image for i in range(6)]
MODEL, CLASS, PIXELS, STABLE, ADDS_UP = range(5)


def verdicts(e: sightline.Explanation) -> list[str]:
    assert e.check is not None
    return [a.verdict for a in e.check.answers]


def built(net: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return net().eval()


def carded(model: object, x: object, method: str = "gradient", target: object = "top1") -> sightline.Explanation:
    made = sightline.explain(model, x, method, target, check=True)
    return made if isinstance(made, sightline.Explanation) else made[0]


@pytest.fixture(scope="module")
def cards() -> dict[str, list[list[str]]]:
    methods = ["grad_cam", "guided_backprop", "edges", "constant"]
    found = sightline.explain("demo/honest", PICTURES, methods, check=True)
    return {m: [verdicts(e) for e in found if e.method == m] for m in methods}


def test_grad_cam_of_the_honest_model_gets_mostly_yes(cards: dict[str, list[list[str]]]) -> None:
    made = [v for card in cards["grad_cam"] for v in card if v != "unknown"]
    assert made.count("yes") >= 0.8 * len(made)
    assert "no" not in made


def test_what_ignores_the_model_or_the_class_fails_those_questions(cards: dict[str, list[list[str]]]) -> None:
    for control in ("edges", "constant"):
        assert all(card[MODEL] == card[CLASS] == "no" for card in cards[control])
    assert all(card[CLASS] == "no" and card[MODEL] != "yes" for card in cards["guided_backprop"])


def test_a_constant_map_marks_nothing_and_is_stable(cards: dict[str, list[list[str]]]) -> None:
    assert all(card[PIXELS] == "no" and card[STABLE] == "yes" for card in cards["constant"])


def test_the_card_is_what_the_metrics_say() -> None:
    e = sightline.explain("demo/honest", PICTURES[0], "grad_cam", check=True)
    names = "parameter_randomization,random_logit,average_sensitivity"
    given = {"parameter_randomization.draws": 2, "average_sensitivity.samples": 4}
    found = measure("demo/honest", e, metric=names, parameters=given)
    model, other, _, stable, _ = (a.value for a in e.check.answers)
    assert model == pytest.approx(found["parameter_randomization"][0], abs=1e-3)
    assert other == pytest.approx(found["random_logit"][0], abs=1e-3)
    assert stable == pytest.approx(found["average_sensitivity"][0], abs=1e-3)


def test_without_check_there_is_no_card() -> None:
    assert sightline.explain("demo/honest", PICTURES[0]).check is None


def test_a_batch_gets_the_cards_of_its_images() -> None:
    together = sightline.explain("demo/honest", PICTURES[:2], "gradient", ["top1", 3], check=True)
    alone = sightline.explain("demo/honest", PICTURES[1], "gradient", 3, check=True)
    for ours, theirs in zip(together[3].check.answers, alone.check.answers, strict=True):
        assert ours.verdict == theirs.verdict
        assert ours.value is theirs.value is None or ours.value == pytest.approx(theirs.value, abs=1e-3)


def test_a_method_that_promises_a_sum_is_held_to_it() -> None:
    e = carded(built(ConvNet), torch.rand(1, 3, 16, 16), "integrated_gradients")
    assert e.check.answers[ADDS_UP].value == pytest.approx(e.completeness.gap)
    assert "was promised" in e.check.answers[ADDS_UP].sentence
    assert carded("demo/honest", PICTURES[0], "grad_cam").check.answers[ADDS_UP].verdict == "unknown"


@pytest.mark.parametrize(
    ("net", "shape"), [(SignalNet, (1, 2, 64)), (VolumeNet, (1, 1, 8, 8, 8)), (ConvNet, (1, 3, 16, 16))]
)
def test_series_volumes_and_pictures_are_checked_and_drawn(net: type, shape: tuple[int, ...]) -> None:
    e = carded(built(net), torch.rand(shape, generator=torch.Generator().manual_seed(0)))
    assert verdicts(e).count("unknown") == 1
    bare = sightline.explain(built(net), torch.rand(shape), "gradient")[0]
    assert e.render().height > bare.render().height + 60


def test_a_function_has_no_weights_to_try() -> None:
    def function(x: torch.Tensor) -> np.ndarray:
        return np.stack([x.numpy()[:, :, :100].mean((1, 2, 3)), x.numpy().mean((1, 2, 3))], 1)

    e = carded(load(function), PICTURES[0], "feature_ablation")
    assert e.check.answers[MODEL] == Answer(
        "Does it depend on the model?", "unknown", None, e.check.answers[0].sentence
    )
    assert "no weights that could be shuffled" in e.check.answers[MODEL].sentence
    assert verdicts(e)[STABLE] != "unknown"


def test_a_keras_model_is_checked() -> None:
    from sightline.models.keras import import_keras

    keras = import_keras()
    layers = [keras.layers.Conv2D(4, 3, activation="relu"), keras.layers.GlobalAveragePooling2D()]
    net = keras.Sequential([keras.Input((16, 16, 3)), *layers, keras.layers.Dense(3, activation="softmax")])
    assert verdicts(carded(load(net), PICTURES[0])).count("unknown") == 1


@pytest.mark.parametrize(
    ("net", "target", "what"),
    [
        (ConvNet, targets.contrast("top1", 2), "is no class"),
        (ConvNet, targets.joint("top1", 3), "is no class"),
        (ConvNet, targets.regression(1), "is no class"),
        (ConvNet, targets.unit("features.4", 2), "is no class"),
        (BinaryNet, "top1", "one output"),
        (DenseNet, targets.region("top1", np.ones((16, 16))), ""),
        (ConvNet, "top2", ""),
    ],
)
def test_targets_that_are_no_class_leave_one_question_open(net: type, target: object, what: str) -> None:
    card = carded(built(net), torch.rand(1, 3, 16, 16), target=target).check
    assert (card.answers[CLASS].verdict == "unknown") == bool(what)
    assert what in card.answers[CLASS].sentence
    assert [a.verdict for a in card.answers].count("unknown") == 1 + bool(what)


def test_the_class_stays_that_of_the_image() -> None:
    """A target such as top1 means another class to a shuffled model; its map must be of the first one's."""
    model, x = load(built(ConvNet)), torch.rand(1, 3, 16, 16)
    best = sightline.predict(model, x)[0][0]["index"]
    implied, named = (carded(model, x, target=t).check for t in (targets.contrast("top1", 2), best))
    by_name = carded(model, x, target=targets.contrast(best, 2)).check
    assert implied.answers[MODEL].value == pytest.approx(by_name.answers[MODEL].value)
    assert named.answers[MODEL].value != implied.answers[MODEL].value


def test_tiles_and_checks_do_not_go_together() -> None:
    with pytest.raises(ParameterError, match="check= asks about one pass"):
        sightline.explain("demo/honest", PICTURES[0], tile=64, check=True)


def test_ticks_tell_of_the_extra_explanations() -> None:
    from sightline.engine import explanations

    ticks: list[int] = []
    list(explanations(load("demo/honest"), PICTURES[0], "gradient", check=True, tick=ticks.append))
    assert sum(ticks) >= 11 + 9


CARD = TrustCard(
    (
        Answer("A?", "yes", 0.25, "So it is."),
        Answer("B?", "partly", 0.5, "Half."),
        Answer("C?", "no", 1.0, "No."),
        answered("D?", "yes", math.nan, "It cannot be."),
    )
)


def test_the_first_line_counts_what_was_checked() -> None:
    said = "Not as it stands: 1 of 3 checks passed, 1 in part, 1 not checked."
    assert CARD.headline == f"Can this map be believed? {said}"
    assert str(CARD).splitlines()[4] == "? D? Not checked. It cannot be."
    assert CARD.answers[3].value is None


@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_a_card_is_saved_and_loaded(tmp_path: Path, suffix: str) -> None:
    e = sightline.explain("demo/honest", PICTURES[0], "grad_cam", check=True)
    assert sightline.Explanation.load(e.save(tmp_path / f"e{suffix}")).check == e.check
    assert TrustCard.from_dict(json.loads(json.dumps(CARD.to_dict()))) == CARD


def test_results_saved_before_there_were_cards_load(tmp_path: Path) -> None:
    file = sightline.explain("demo/honest", PICTURES[0]).save(tmp_path / "e.json")
    about = json.loads(file.read_text())
    del about["check"]
    file.write_text(json.dumps(about))
    assert sightline.Explanation.load(file).check is None


def test_notebooks_show_the_card_in_words() -> None:
    e = sightline.explain("demo/honest", PICTURES[0], "edges", check=True)
    html = e._repr_html_()
    assert "Can this map be believed? Hardly: 2 of 4" in html
    assert "✗ Does it depend on the model? No." in html


def test_marks_differ_without_colour() -> None:
    assert len(set(MARKS.values())) == len(MARKS)
    pictures = []
    for verdict, mark in MARKS.items():
        rows = checks_block(Checks("", [Check(verdict, mark, "", "")]), Room(600, 1.0))
        pictures.append(np.asarray(rows[0][0].convert("L"))[:18, :18] < 200)
    assert all((a != b).any() for i, a in enumerate(pictures) for b in pictures[:i])


def test_of_a_map_of_zeros_there_is_nothing_to_check() -> None:
    e = carded(built(ConvNet), torch.rand(1, 3, 16, 16), "grad_cam", lambda logits: 0 * logits[:, 0])
    assert not e.attribution.any()
    assert {a.sentence for a in e.check.answers[:ADDS_UP]} == {"The map is zero everywhere."}


def test_json_has_the_card() -> None:
    e = sightline.explain("demo/honest", PICTURES[0], "grad_cam", check=True)
    said = json.loads(json.dumps(entry("demo/honest", "one.png", e), allow_nan=False))["check"]
    assert said["headline"] == e.check.headline
    assert [a["verdict"] for a in said["answers"]] == verdicts(e)


def test_the_command_line_says_it_under_the_map(tmp_path: Path) -> None:
    Image.fromarray(PICTURES[0]).save(tmp_path / "one.png")
    command = ["explain", "one.png", "--model", "demo/honest", "--method", "guided_backprop", "--check"]
    done = commands.sightline(tmp_path, *command)
    assert done.returncode == 0, done.stderr
    lines = [line.strip() for line in done.stdout.splitlines()]
    place = next(i for i, line in enumerate(lines) if line.startswith("Can this map be believed?"))
    assert "guided_backprop" in lines[place - 1]
    assert [line[0] for line in lines[place + 1 : place + 6]][CLASS] == "✗"
    assert all(line[0] in MARKS.values() for line in lines[place + 1 : place + 6])


def test_every_question_says_how_it_is_measured() -> None:
    card = sightline.explain("demo/honest", PICTURES[0], "constant", check=True).check
    assert [a.question for a in card.answers] == list(HOW)
