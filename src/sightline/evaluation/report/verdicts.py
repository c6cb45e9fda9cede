"""What each method's values say against the controls, in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from sightline.evaluation.registry import Metric
from sightline.evaluation.results import Evaluation
from sightline.evaluation.stats import Paired

__all__ = ["FEWEST", "LEVEL", "Outcome", "Test", "Verdict", "best_control", "headline", "sign_of", "verdicts", "worded"]

Outcome = Literal["beats", "even", "worse", "undecided"]
LEVEL = 0.05
FEWEST = 6
"""Fewer images than this cannot reach the level: the smallest p of n signs is 2 / 2**n."""

_CONTROLS = {
    "random": "random noise",
    "edges": "an edge detector",
    "centre": "a blob in the middle",
    "constant": "a blank map",
}


@dataclass(frozen=True)
class Test:
    """One method by one metric: how it ends, and the control that it fails to beat, None where there is none."""

    metric: Metric
    outcome: Outcome
    control: str | None = None

    @property
    def words(self) -> str:
        """The outcome in words."""
        other = worded(self.control) if self.control else "the controls"
        return {
            "beats": "beats every control",
            "even": f"no better than {other}",
            "worse": f"worse than {other}",
            "undecided": "cannot be decided",
        }[self.outcome]


@dataclass(frozen=True)
class Verdict:
    """What all metrics that know a good direction say of one method."""

    method: str
    tests: Sequence[Test]

    @property
    def wins(self) -> int:
        """The number of metrics by which it beats every control."""
        return sum(t.outcome == "beats" for t in self.tests)

    @property
    def undecided(self) -> bool:
        """Whether a metric has too few values to tell."""
        return any(t.outcome == "undecided" for t in self.tests)

    @property
    def rank(self) -> tuple[float, int]:
        """What verdicts are sorted by: the share of wins, then how few losses."""
        decided = sum(t.outcome != "undecided" for t in self.tests)
        return -self.wins / max(1, decided), sum(t.outcome == "worse" for t in self.tests)

    @cached_property
    def sentence(self) -> str:
        """The verdict in a sentence."""
        decided = [t for t in self.tests if t.outcome != "undecided"]
        if not decided:
            return "Undecided: too few images, or no value that is defined."
        lost = [t for t in decided if t.outcome != "beats"]
        if not lost:
            return "Beats every control" + (f" on all {len(decided)} tests." if len(decided) > 1 else ".")
        won = f"Beats every control on {self.wins} of {len(decided)} tests; " if self.wins else ""
        text = won + _joined(_failures(lost, sole=len(decided) == len(lost))) + "."
        return text[0].upper() + text[1:]


def _failures(lost: Sequence[Test], *, sole: bool) -> list[str]:
    """Say what beat it by which metric; the metrics go without saying where one control did so by all."""
    said = []
    for outcome, words in (("even", "no better than"), ("worse", "worse than")):
        by: dict[str, list[str]] = {}
        for test in (t for t in lost if t.outcome == outcome):
            by.setdefault(worded(test.control or ""), []).append(test.metric.name.replace("_", " "))
        if sole and len(by) == 1 and len(lost) == len(next(iter(by.values()))):
            return [f"{words} {next(iter(by))}"]
        said += [f"{words} {' or '.join(f'{c} by {_joined(names)}' for c, names in by.items())}"] if by else []
    return said


def _joined(texts: Sequence[str]) -> str:
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def worded(control: str) -> str:
    """Return a control's name as a person would say it."""
    return _CONTROLS.get(control, control)


def sign_of(metric: Metric) -> int:
    """Return 1 where more is better, -1 where less is, 0 where neither."""
    return {"higher": 1, "lower": -1, "neither": 0}[metric.better]


def best_control(found: Evaluation, metric: Metric) -> str | None:
    """Return the control that is best by a metric; None where no control has a value, or no direction is good."""
    sign, means = sign_of(metric), found.summary(metric.name)
    known = [c for c in found.controls if c in means and not math.isnan(means[c].mean)]
    return max(known, key=lambda c: sign * means[c].mean, default=None) if sign else None


def verdicts(found: Evaluation) -> list[Verdict]:
    """Return a verdict for each method that is no control, the best first."""
    judged = [m for m in found.metrics if m.judges]
    listed = [n for n in found.methods if n not in found.controls]
    return sorted((Verdict(n, [_test(found, m, n) for m in judged]) for n in listed), key=lambda v: v.rank)


def _test(found: Evaluation, metric: Metric, method: str) -> Test:
    pairs = {c: found.against(metric.name, c).get(method) for c in found.controls}
    known = {c: p for c, p in pairs.items() if p is not None and p.count}
    if not known or max(p.count for p in known.values()) < FEWEST:
        return Test(metric, "undecided")
    if found.beats_controls(metric.name, method, LEVEL):
        return Test(metric, "beats")
    sign = sign_of(metric)
    unbeaten = {c: p for c, p in known.items() if sign * p.difference <= 0 or p.p >= LEVEL}
    if max(p.count for p in unbeaten.values()) < FEWEST:
        return Test(metric, "undecided")
    worst = min(unbeaten, key=lambda c: sign * unbeaten[c].difference)
    return Test(metric, "worse" if _lost(unbeaten[worst], sign) else "even", worst)


def _lost(pair: Paired, sign: int) -> bool:
    return sign * pair.difference < 0 and pair.p < LEVEL


def headline(found: Sequence[Verdict]) -> str:
    """Say in one sentence which methods beat every control."""
    if not found or not found[0].tests:
        return "Nothing was compared with the controls: these metrics describe, and no direction of theirs is good."
    tests = len(found[0].tests)
    tests_words = f"all {tests} tests" if tests > 1 else f"the one test, {found[0].tests[0].metric.name}"
    decided = [v for v in found if any(t.outcome != "undecided" for t in v.tests)]
    best = [v.method for v in decided if v.wins == tests]
    if not decided:
        return f"No verdict: with fewer than {FEWEST} images, chance alone explains any difference."
    if len(best) == len(found) > 1:
        return f"All {len(found)} methods beat every control on {tests_words}."
    if best:
        verb = "beats" if len(best) == 1 else "beat"
        return f"{len(best)} of {len(found)} methods {verb} every control on {tests_words}: {_joined(best)}."
    most = max(v.wins for v in decided)
    some = [v.method for v in decided if v.wins == most]
    who = _joined(some) if len(some) <= 3 else f"{len(some)} methods"
    more = f"; {who} {'does' if len(some) == 1 else 'do'} on {most}" if most else ""
    return f"No method beats every control on {tests_words}{more}."
