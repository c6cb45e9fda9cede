"""The pictures behind a deletion or insertion curve, and maps of shuffled models, against the metrics' own values."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

import sightline
from sightline.demo.scenes import scene
from sightline.errors import InputError, ParameterError, RefusedError
from sightline.evaluation.measure import measure
from sightline.evaluation.metrics.randomized import randomized
from sightline.evaluation.shuffling import layers_to_shuffle, shuffled
from sightline.evaluation.stepwise import Direction, stepwise
from sightline.models.load import load

MODEL = load("demo/honest")
PICTURE = scene(5).image
MAP = sightline.explain(MODEL, PICTURE, "grad_cam")
STEPS = 7


def chance(found: list[sightline.explanation.Prediction]) -> float:
    return next(p["probability"] for p in found if p["index"] == MAP.target.index)


@pytest.mark.parametrize("direction", ["deletion", "insertion"])
@pytest.mark.parametrize("fill", ["blur", "mean", "zero"])
def test_the_picture_of_each_step_is_what_was_scored(direction: Direction, fill: str) -> None:
    found = stepwise(MODEL, MAP, direction, steps=STEPS, fill=fill)
    for step, score in enumerate(found.scores):
        given = sightline.predict(MODEL, found.input(step)[None])[0]
        assert chance(given) == pytest.approx(score, abs=1e-5)
        seen = sightline.predict(MODEL, found.picture(step))[0]
        assert chance(seen) == pytest.approx(score, abs=0.03)  # the picture has 256 levels


@pytest.mark.parametrize("direction", ["deletion", "insertion"])
def test_the_area_is_the_metrics_value(direction: Direction) -> None:
    for method in ("grad_cam", "constant"):
        e = sightline.explain(MODEL, PICTURE, method)
        how = {f"{direction}.steps": STEPS, f"{direction}.fill": "mean"}
        value = measure(MODEL, e, metric=direction, parameters=how)[direction][0]
        assert stepwise(MODEL, e, direction, steps=STEPS, fill="mean").area == pytest.approx(value, abs=1e-9)


def test_the_first_and_the_last_picture_are_the_photo_and_its_cover() -> None:
    down, up = (stepwise(MODEL, MAP, way, steps=4, fill="black") for way in ("deletion", "insertion"))
    np.testing.assert_array_equal(down.picture(0), PICTURE)
    np.testing.assert_array_equal(up.picture(4), PICTURE)
    assert not down.picture(4).any()
    assert not up.picture(0).any()


def test_what_is_marked_most_goes_first_and_comes_first() -> None:
    down, up = (stepwise(MODEL, MAP, way, steps=4) for way in ("deletion", "insertion"))
    heat = MAP.at_input()
    gone, shown = ~down.kept(1), up.kept(1)
    np.testing.assert_array_equal(gone, shown)
    assert gone.mean() == 0.25
    assert heat[gone].min() >= heat[~gone].max()


def test_steps_are_counted_as_they_are_made() -> None:
    counts: list[int] = []
    stepwise(MODEL, MAP, steps=5, tick=counts.append)
    assert sum(counts) == 5  # four between the ends, and the covered picture


def test_what_cannot_be_changed_step_by_step_is_said() -> None:
    with pytest.raises(ParameterError, match="wanted deletion or insertion"):
        stepwise(MODEL, MAP, "sideways")  # type: ignore[arg-type]
    for target in (sightline.targets.unit("features.conv4", 3), sightline.targets.contrast("star", "ring")):
        with pytest.raises(InputError, match="is no class"):
            stepwise(MODEL, sightline.explain(MODEL, PICTURE, "occlusion", target=target))


@pytest.mark.parametrize("order", ["cascading", "independent"])
def test_similarities_of_thirds_are_those_of_the_metric(order: str) -> None:
    how = {"parameter_randomization.order": order, "parameter_randomization.layers": 6}
    value = measure(MODEL, MAP, metric="parameter_randomization", parameters=how)["parameter_randomization"][0]
    found = [shuffled(MODEL, MAP, count, order=order).similarity for count in range(1, 7)]  # type: ignore[arg-type]
    assert np.mean(found) == pytest.approx(value, abs=1e-6)


def test_layers_are_shuffled_from_the_output_down_or_one_alone() -> None:
    names = layers_to_shuffle(MODEL, MAP)
    assert names[0] == "head"
    assert shuffled(MODEL, MAP, 2).layers == tuple(names[:2])
    assert shuffled(MODEL, MAP, 2, order="independent").layers == (names[1],)


def test_the_shuffled_model_says_something_else_and_the_trained_one_the_same() -> None:
    same, other = shuffled(MODEL, MAP, 0), shuffled(MODEL, MAP, 6)
    assert same.similarity == 1.0
    assert chance(list(same.explanation.predictions)) == pytest.approx(chance(list(MAP.predictions)))
    assert other.explanation.target == MAP.target
    drawn = sightline.predict(randomized(MODEL, 0), PICTURE)[0]
    assert other.explanation.predictions[0] == drawn[0]
    np.testing.assert_array_equal(MAP.attribution, same.explanation.attribution)


def test_parameters_and_the_explained_output_are_kept() -> None:
    e = sightline.explain(MODEL, PICTURE, "grad_cam", layer="features.conv4", output="probability", relu=False)
    again = shuffled(MODEL, e, 0).explanation
    assert (again.layer, again.parameters) == (e.layer, e.parameters)
    np.testing.assert_array_equal(again.attribution, e.attribution)


def test_what_cannot_be_shuffled_is_said() -> None:
    with pytest.raises(ParameterError, match="has 0 to 6"):
        shuffled(MODEL, MAP, 7)
    blind = load(lambda x: x.flatten(2).mean(2), preprocessing=MODEL.preprocessing)
    with pytest.raises(RefusedError, match="shows no weights"):
        shuffled(blind, sightline.explain(blind, PICTURE, "edges"), 1)


def test_threads_may_shuffle_one_model_at_once() -> None:
    model, failed = load("demo/honest"), []

    def work(seed: int) -> None:
        try:
            for count in range(7):
                shuffled(model, MAP, count, seed=seed)
        except Exception as error:  # noqa: BLE001  whatever ends a thread is what is looked for
            failed.append(error)

    threads = [threading.Thread(target=work, args=(seed % 2,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert torch.equal(model.module.state_dict()["head.weight"], MODEL.module.state_dict()["head.weight"])
