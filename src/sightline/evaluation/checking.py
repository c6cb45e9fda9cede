"""How a trust card is filled: each of its questions is one metric with few samples, for one image and one map."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from sightline.errors import SightlineError
from sightline.evaluation.card import Answer, TrustCard, Verdict, answered
from sightline.evaluation.case import Case
from sightline.evaluation.marked import area_drops
from sightline.evaluation.measuring import again_by, views_of
from sightline.evaluation.randomization import other_classes, parameter_randomization, random_logit
from sightline.evaluation.robustness import average_sensitivity
from sightline.explanation import Explanation
from sightline.methods import Method
from sightline.plan import Plan
from sightline.samples import Sample

__all__ = ["check"]

_SHARE = 0.1
_MODEL, _CLASS, _PIXELS, _STABLE, _ADDS_UP = (
    "Does it depend on the model?",
    "Does it depend on the class?",
    "Do the pixels it marks matter?",
    "Is it stable?",
    "Does it add up?",
)


@dataclass(frozen=True)
class _Levels:
    """The values up to which an answer is yes, and from which it is no; between them it is partly."""

    yes: float
    no: float

    def verdict(self, value: float) -> Verdict:
        return "yes" if value < self.yes else "no" if value >= self.no else "partly"


_SIMILAR_MODEL = _Levels(0.4, 0.6)
_SIMILAR_CLASS = _Levels(0.7, 0.9)
_CHANGE = _Levels(0.2, 0.5)
_GAP = _Levels(0.05, 0.2)
_LEAST_DROP = 0.1


def check(plan: Plan, method: Method, sample: Sample, e: Explanation) -> TrustCard:
    """Fill the card of the explanation of one image, by the one target of ``plan``.

    Model: similarity (Spearman, of magnitudes) of the map with those of the weights shuffled from the output down, in
    thirds; yes below 0.4, no from 0.6. Class: similarity (Spearman) with the map of the most probable other class; yes
    below 0.7, no from 0.9. Pixels: the share of the probability that covering the marked 10 % takes, against 8 areas
    of that size and shape elsewhere; yes where it is 10 points more than their mean and more than any of them, partly
    where it is more than their mean by 5 points. Stability: the mean change of the map under 4 draws of noise of 2 %
    of the range; yes below 20 %, no from 50 %. Sum: the gap to what the method promises; yes below 5 %, no from 20 %.
    A check that cannot be made says why. Eight more explanations in all, and 10 forward passes.
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
    try:
        return ask(case, e)
    except SightlineError as error:
        return Answer(question, "unknown", None, str(error))


def _on_model(case: Case, _: Explanation) -> Answer:
    value = float(parameter_randomization(case, layers=3)[0])
    verdict = _SIMILAR_MODEL.verdict(value)
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
        f"Covering the {_SHARE:.0%} that it marks most {_taken(marked)} of the {what}; areas of that size and shape "
        f"elsewhere, {float(others.mean()):.0%} on average."
    )
    return answered(_PIXELS, verdict, more, said if math.isfinite(more) else f"The {what} is 0, so none can be lost.")


def _taken(share: float) -> str:
    return f"takes away {share:.0%}" if share >= 0 else f"adds {-share:.0%}"


def _on_stability(case: Case, _: Explanation) -> Answer:
    value = float(average_sensitivity(case, samples=4)[0])
    said = f"A little noise (2% of the range) changes the map by {value:.0%} of its size."
    return answered(_STABLE, _CHANGE.verdict(value), value, said if math.isfinite(value) else "The map is zero.")


def _on_sum(_: Case, e: Explanation) -> Answer:
    sums = e.completeness
    if sums is None:
        said = f"{e.method} does not promise that its parts add up to the score, so there is nothing to check."
        return Answer(_ADDS_UP, "unknown", None, said)
    said = f"The parts sum to {sums.total:.3g} where {sums.expected:.3g} was promised, {sums.gap:.1%} off."
    return answered(_ADDS_UP, _GAP.verdict(sums.gap), sums.gap, said)
