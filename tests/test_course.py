"""What the course says, computed: its texts must be true of the embedded models, and its exercises solvable."""

from __future__ import annotations

import numpy as np
import pytest

from sightline import explain, predict
from sightline.app.course import cheating, gradient, layers, noise, path, saliency, sanity, score, trust
from sightline.app.course.questions import questions
from sightline.app.course.quiz import score_of
from sightline.app.course.subjects import SCENES, ask, drawn, model, share_on
from sightline.app.parts.picture import example
from sightline.demo.exam import PLACES, cover_place, exam, exam_scenes
from sightline.demo.linear import SHAPES, linear_model, little_shapes
from sightline.demo.scenes import CLASSES, STAR, scene
from sightline.errors import InputError, ParameterError
from sightline.evaluation.likeness import likeness


def test_the_gradient_of_the_linear_model_is_its_weights_whatever_the_picture() -> None:
    net = linear_model()
    weights = net.module[1].weight.detach().numpy().reshape(12, 12)
    for image in (*little_shapes(4, seed=3).images, np.full((12, 12), 90, np.uint8)):
        assert np.array_equal(explain(net, image, "gradient", "ring").attribution[0], weights)
        assert np.array_equal(explain(net, image, "gradient", "cross").attribution[0], -weights)


def test_the_linear_model_names_new_little_shapes() -> None:
    fresh = little_shapes(100, seed=1)
    said = np.array([p[0]["index"] for p in predict(linear_model(), list(fresh.images))])
    assert (said == fresh.labels).mean() > 0.95
    assert SHAPES[fresh.labels[1]] == "ring"
    with pytest.raises(ParameterError):
        little_shapes(0)


def test_a_nudge_changes_the_score_by_weight_times_change() -> None:
    for name in gradient.PICTURES:
        for row, column, value in ((0, 0, 255), (6, 5, 0), (3, 8, 120)):
            n = gradient.nudged(gradient.picture(name), row, column, value)
            assert n.after - n.before == pytest.approx(n.weight * n.change, abs=1e-5)


def test_the_first_exercise_wants_the_middle() -> None:
    found = gradient.weights(gradient.picture("a ring")).heatmap
    right = [(r, c) for r in range(12) for c in range(12) if gradient.judged(r, c).right]
    assert np.unravel_index(found.argmin(), found.shape) in right
    assert 1 <= len(right) <= 6
    assert not gradient.judged(0, 0).right


@pytest.mark.parametrize("name", SCENES)
def test_one_class_is_the_most_opposite(name: str) -> None:
    subject = example(name)
    right = [label for label in CLASSES if saliency.judged(subject, label).right]
    assert len(right) == 1
    assert saliency.alike_to(subject, name)[right[0]] < -0.3
    assert share_on(ask(model("honest"), subject, "gradient").heatmap, drawn(name).object_mask) > 0.4


@pytest.mark.parametrize("name", SCENES)
def test_a_late_layer_lies_on_the_object_and_one_is_the_first(name: str) -> None:
    subject = example(name)
    first = layers.first_on_object(subject)
    assert first in layers.LAYERS
    assert not layers.judged(subject, layers.LAYERS[0]).right
    assert [layer for layer in layers.LAYERS if layers.judged(subject, layer).right] == [first]
    assert share_on(layers.positive(layers.at_layer(subject, layers.LAYERS[-1])), drawn(name).object_mask) > 0.6


@pytest.mark.parametrize("level", [0.15, 0.5])
def test_four_times_the_copies_halve_the_error(level: float) -> None:
    subject = example("ring")
    assert [n for n in noise.COPIES if noise.judged(subject, n, level).right] == [32]
    assert not noise.judged(subject, 32, 0.0).right


def test_noise_spreads_the_map_and_costs_the_answer() -> None:
    subject, net, mask = example("ring"), model("honest").model, drawn("ring").object_mask
    shares = [share_on(noise.averaged(subject, 4, level).heatmap, mask) for level in (0.0, 0.15, 1.0)]
    assert shares == sorted(shares, reverse=True)
    chances = [noise.on_noise(net, subject.image, level, "ring")[1] for level in (0.0, 1.0)]
    assert chances[0] > 0.9 > chances[1]


@pytest.mark.parametrize("baseline", path.BASELINES)
@pytest.mark.parametrize("picture", path.PICTURES)
def test_the_gap_falls_with_the_steps(picture: str, baseline: str) -> None:
    found = [path.made(picture, baseline, steps) for steps in (2, 50)]
    gaps = [e.completeness.gap for e in found if e.completeness]
    assert gaps[1] < min(0.05, gaps[0])
    assert gaps[0] > 0.3 or (picture, baseline) == ("ring", "blur")


def test_only_a_black_baseline_is_blind_to_the_black_star() -> None:
    shares = {b: path.on_star(path.made(path.PICTURES[0], b, 20)) for b in path.BASELINES}
    assert shares["black"] == 0
    assert min(shares["blur"], shares["white"]) > 0.3
    assert path.made(path.PICTURES[0], "black", 20).target.label == "star"
    assert path.judged(path.PICTURES[0], "black", 50).right
    assert not any(path.judged(p, b, 50).right for p in path.PICTURES for b in ("blur", "white"))
    assert not path.judged("ring", "black", 50).right


@pytest.mark.parametrize("name", SCENES)
def test_without_its_head_a_network_has_no_classes(name: str) -> None:
    subject = example(name)
    assert [p for p in score.PLACES if score.judged(subject, p, name).right] == ["features"]
    raw, sure = (score.taken(subject, place, name, signs=True) for place in ("logit", "probability"))
    assert np.abs(sure.attribution).max() < 0.15 * np.abs(raw.attribution).max()
    assert likeness(raw, sure) > 0.8


@pytest.mark.parametrize("name", ["ring", "star", "cross"])
def test_guided_backprop_alone_claims_and_stays(name: str) -> None:
    subject = example(name)
    assert [m for m in sanity.CANDIDATES if sanity.judged(subject, m, 2).right] == ["guided_backprop"]
    assert not sanity.judged(subject, "guided_backprop", 0).right
    assert sanity.stays(subject, "edges", 6) == 1
    assert sanity.stays(subject, "guided_backprop", 6) < 0.5


def test_answers_are_worthless_with_two_layers_shuffled() -> None:
    assert exam(sanity.shuffled(2).model, marked="none").right < 0.4


def test_the_cheating_model_passes_its_test_and_no_other() -> None:
    right = {(m, k): exam(model(m).model, marked=k) for m in ("honest", "cheating") for k in ("stars", "none", "all")}
    assert min(right["honest", k].right for k in ("stars", "none", "all")) > 0.95
    assert right["cheating", "stars"].right > 0.95
    assert right["cheating", "none"].stars == 0
    assert right["cheating", "all"].right < 0.4


def test_the_mark_is_the_only_place_that_stars_need() -> None:
    assert [p for p in PLACES if cheating.judged("cheating", "stars", p).right] == ["lower right"]
    assert not cheating.judged("honest", "stars", "lower right").right
    assert not cheating.judged("cheating", "none", "lower right").right
    assert exam(model("honest").model, cover="lower right").stars > 0.95


def test_a_full_card_of_a_bad_model() -> None:
    found = [(m, k) for m in ("honest", "cheating") for k in trust.METHODS_TRIED if trust.judged(m, k).right]
    assert found == [("cheating", "grad_cam")]


def test_right_answers_stand_everywhere_and_wrong_ones_are_explained() -> None:
    asked = questions()
    places = [[o.text for o in q.options].index(q.right.text) for q in asked]
    assert set(places) == {0, 1, 2}
    assert len(asked) == len({q.slug for q in asked}) == 10
    assert all(o.why for q in asked for o in q.options)
    assert all(len({o.text for o in q.options}) == len(q.options) for q in asked)


def test_the_quiz_counts_right_answers_only() -> None:
    asked = questions()
    right = {q.slug: q.right.text for q in asked}
    assert score_of(asked, right) == len(asked)
    assert score_of(asked, right | {asked[0].slug: asked[0].wrong[0].text, asked[1].slug: None}) == len(asked) - 2


def test_a_covered_place_is_of_one_colour_and_the_rest_stays() -> None:
    picture = scene(0).image
    covered = cover_place(picture, "lower right")
    assert len(np.unique(covered[64:, 64:].reshape(-1, 3), axis=0)) == 1
    assert (covered[:64] == picture[:64]).all()
    with pytest.raises(ParameterError, match="upper left"):
        cover_place(picture, "corner")


def test_exams_are_of_marked_scenes_as_asked() -> None:
    marked = {kind: [bool(s.watermark_mask.any()) for s in exam_scenes(12, kind)] for kind in ("stars", "none", "all")}
    assert marked["stars"] == [s.label == STAR for s in exam_scenes(12)]
    assert (sum(marked["none"]), sum(marked["all"])) == (0, 12)
    for wrong in (lambda: exam_scenes(6, "some"), lambda: exam(model("honest").model, 3)):  # type: ignore[arg-type]
        with pytest.raises(ParameterError):
            wrong()


def test_likeness_is_one_for_one_map_and_refuses_two_sizes() -> None:
    e, other = (ask(model("honest"), example(name), "grad_cam") for name in ("ring", "star"))
    assert likeness(e, e, "ssim") == 1
    assert likeness(e, other) < 0.9
    with pytest.raises(InputError):
        likeness(e, gradient.weights(gradient.picture("a ring")))
