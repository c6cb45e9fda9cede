"""How a trust card is filled: each of its questions is one metric with few samples, for one image and one map."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from sightline.engine import cut_to_batch, filled
from sightline.errors import SightlineError
from sightline.evaluation.card import Answer, TrustCard, Verdict, answered
from sightline.evaluation.case import Case
from sightline.evaluation.measuring import again_by, pinned, views_of
from sightline.evaluation.metrics.marked import area_drops
from sightline.evaluation.metrics.randomization import other_classes, parameter_randomization, random_logit
from sightline.evaluation.metrics.robustness import average_sensitivity
from sightline.explanation import Explanation
from sightline.goals import Goal
from sightline.methods import Method
from sightline.plan import Plan
from sightline.recording import Recording
from sightline.samples import Sample
from sightline.targets import PerImage, Target, part_of

__all__ = ["HOW", "SIMILAR_MODEL", "Levels", "check", "checked"]

_SHARE = 0.1
_MODEL, _CLASS, _PIXELS, _STABLE, _ADDS_UP = (
    "Does it depend on the model?",
    "Does it depend on the class?",
    "Do the pixels it marks matter?",
    "Is it stable?",
    "Does it add up?",
)


@dataclass(frozen=True)
class Levels:
    """The values up to which an answer is yes, and from which it is no; between them it is partly."""

    yes: float
    no: float

    def verdict(self, value: float) -> Verdict:
        """Return the answer that a value gives."""
        return "yes" if value < self.yes else "no" if value >= self.no else "partly"


SIMILAR_MODEL = Levels(0.4, 0.5)
_SIMILAR_CLASS = Levels(0.8, 0.9)
_CHANGE = Levels(0.2, 0.5)
_GAP = Levels(0.05, 0.2)
_LEAST_DROP = 0.1

HOW: Mapping[str, str] = {
    _MODEL: "The weights are shuffled from the output down, a third of the layers more each time, and the map is made "
    f"again, with two draws. Yes below a mean similarity of {SIMILAR_MODEL.yes:g}, no from {SIMILAR_MODEL.no:g}.",
    _CLASS: "The map of the most probable other class is made and compared. "
    f"Yes below a similarity of {_SIMILAR_CLASS.yes:g}, no from {_SIMILAR_CLASS.no:g}.",
    _PIXELS: f"The {_SHARE:.0%} that the map marks most is covered, then 8 areas of that size and shape elsewhere. Yes "
    f"where it takes {100 * _LEAST_DROP:.0f} points more of the probability than they do on average and more than any "
    f"of them, no below {50 * _LEAST_DROP:.0f} points.",
    _STABLE: "The picture gets a little noise, four times, and the map is made again. "
    f"Yes where it changes by less than {_CHANGE.yes:.0%}, no from {_CHANGE.no:.0%}.",
    _ADDS_UP: "Some methods promise that the parts of the map sum to the score. "
    f"Yes where the gap is below {_GAP.yes:.0%}, no from {_GAP.no:.0%}.",
}
"""How each question is measured, and which numbers make it yes or no."""


def checked(
    plan: Plan,
    rec: Recording,
    goals: Sequence[Goal],
    batch: Sequence[Sample],
    columns: Sequence[dict[int, Explanation]],
) -> list[dict[int, Explanation]]:
    """Give a batch's explanations, {row: explanation} for each method and goal, their trust cards, one by one."""
    numbers = [s.number for s in filled(plan.model, list(batch))]
    aims = _aims(plan, rec, goals, numbers)
    asked = [(method, aim) for method in plan.methods for aim in aims]
    several = replace(plan, images=len(numbers), check=False)
    return [
        {row: replace(e, check=_alone(several, method, aim, row, batch[row], e)) for row, e in column.items()}
        for (method, aim), column in zip(asked, columns, strict=True)
    ]


def _aims(plan: Plan, rec: Recording, goals: Sequence[Goal], numbers: list[int]) -> list[Target]:
    """Return a target for each goal that means the same classes for other models and inputs."""
    if len(goals) == len(plan.targets):
        return [pinned(part_of(t, numbers), rec) for t in plan.targets]
    return [PerImage(tuple(g.classes.tolist())) for g in goals if g.classes is not None]


def _alone(several: Plan, method: Method, aim: Target, row: int, sample: Sample, e: Explanation) -> TrustCard:
    own = cut_to_batch(several, [replace(sample, number=row)])
    plan = replace(own, methods=[method], targets=[part_of(aim, [row])], images=1)
    return check(plan, method, replace(sample, number=0), e)


def check(plan: Plan, method: Method, sample: Sample, e: Explanation) -> TrustCard:
    """Fill the card of the explanation of one image, by the one target of ``plan``.

    Model: similarity (Spearman, of magnitudes) of the map with those of the weights shuffled from the output down, in
    thirds, twice; yes below 0.4, no from 0.5. Class: similarity (Spearman) with the map of the most probable other
    class; yes below 0.8, no from 0.9. Pixels: the share of the probability that covering the marked 10 % takes, less
    the mean for 8 areas of that size and shape elsewhere; yes from 10 points where it is more than for any of them,
    no below 5. Stability: the mean change of the map under 4 draws of noise of 2 % of the range; yes below 20 %, no
    from 50 %. Sum: the gap to what the method promises; yes below 5 %, no from 20 %. A check that cannot be made says
    why. Eleven more explanations in all, and 10 forward passes.
    """
    with views_of(plan, [sample]) as views:
        x = views["logit"].x
        maps = torch.from_numpy(e.at_input()).to(x.device).expand(len(x), *e.input_size)
        case = Case(views, maps, again=_ticking(plan, again_by(plan, method, views["logit"])))
        asked: Sequence[tuple[str, Callable[[Case, Explanation], Answer]]] = (
            (_MODEL, _on_model),
            (_CLASS, _on_class),
            (_PIXELS, _on_pixels),
            (_STABLE, _on_stability),
            (_ADDS_UP, _on_sum),
        )
        return TrustCard(tuple(_asked(question, ask, case, e) for question, ask in asked))


def _ticking(plan: Plan, again: Any) -> Any:
    def ticking(**asked: Any) -> Any:
        found = again(**asked)
        if plan.options.tick is not None:
            plan.options.tick(1)
        return found

    return ticking


def _asked(question: str, ask: Callable[[Case, Explanation], Answer], case: Case, e: Explanation) -> Answer:
    if question != _ADDS_UP and not case.maps.any():
        return Answer(question, "unknown", None, "The map is zero everywhere.")
    try:
        return ask(case, e)
    except SightlineError as error:
        return Answer(question, "unknown", None, str(error))


def _on_model(case: Case, _: Explanation) -> Answer:
    value = float(parameter_randomization(case, layers=3, draws=2)[0])
    verdict = SIMILAR_MODEL.verdict(value)
    how = {"yes": "quite another", "partly": "partly the same", "no": "much the same"}[verdict]
    said = (
        f"With the model's weights shuffled, so that it knows nothing, the map is {how} (similarity {value:.2f}; 1 is "
        "the same map)."
    )
    return answered(_MODEL, verdict, value, said if math.isfinite(value) else _FLAT)


_FLAT = "One of the two maps is the same everywhere, so that they cannot be compared."


def _on_class(case: Case, _: Explanation) -> Answer:
    other = case.model.labels.name(other_classes(case.rec)[0])
    value = float(random_logit(case)[0])
    verdict = _SIMILAR_CLASS.verdict(value)
    how = {"yes": "another", "partly": "rather alike", "no": "nearly the same"}[verdict]
    said = f"The map of “{other}”, the likeliest other class, is {how} (similarity {value:.2f}; 1 is the same map)."
    return answered(_CLASS, verdict, value, said if math.isfinite(value) else _FLAT)


def _on_pixels(case: Case, _: Explanation) -> Answer:
    score = float(case.view("probability").scores[0])
    drops = area_drops(case, share=_SHARE)[0] / abs(score) if score else torch.full((1,), math.nan)
    marked, others = float(drops[0]), drops[1:]
    more = marked - float(others.mean())
    verdict: Verdict = "partly" if more >= _LEAST_DROP / 2 else "no"
    if more >= _LEAST_DROP and marked > float(others.max()):
        verdict = "yes"
    what = "probability" if case.rec.goal.classes is not None else "score"
    said = (
        f"Covering the {_SHARE:.0%} that it marks most {_taken(marked, what)}; areas of that size and shape "
        f"elsewhere, {_percent(float(others.mean()))} on average."
    )
    return answered(_PIXELS, verdict, more, said if math.isfinite(more) else f"The {what} is 0, so none can be lost.")


def _taken(share: float, what: str) -> str:
    lost, gained = (f"takes {_percent(share)} of the {what} away", f"adds {_percent(-share)} to the {what}")
    return gained if round(share, 2) < 0 else lost


def _percent(share: float) -> str:
    return f"{round(share, 2) + 0.0:.0%}"


def _on_stability(case: Case, _: Explanation) -> Answer:
    value = float(average_sensitivity(case, samples=4)[0])
    said = f"A little noise (2% of the range) changes the map by {value:.0%} of its size."
    return answered(_STABLE, _CHANGE.verdict(value), value, said)


def _on_sum(_: Case, e: Explanation) -> Answer:
    sums = e.completeness
    if sums is None:
        said = f"{e.method} does not promise that its parts add up to the score, so there is nothing to check."
        return Answer(_ADDS_UP, "unknown", None, said)
    said = f"The parts sum to {sums.total:.3g} where {sums.expected:.3g} was promised, {sums.gap:.1%} off."
    return answered(_ADDS_UP, _GAP.verdict(sums.gap), sums.gap, said)
