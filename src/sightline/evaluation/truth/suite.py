"""The ground-truth suite: methods and controls on models and pictures whose right answer is known by construction."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sightline.errors import RefusedError
from sightline.evaluation.registry import find_metric
from sightline.evaluation.results import controls_of
from sightline.evaluation.stats import Summary, compared, summarised
from sightline.evaluation.truth.handmade import HANDMADE
from sightline.evaluation.truth.maps import Maps, inside, maps_of, precision
from sightline.evaluation.truth.mosaic import Trial
from sightline.evaluation.truth.scenes import scene_set
from sightline.evaluation.truth.tetromino import BACKGROUNDS, SCENARIOS, Background, Scenario, tetrominoes, trained
from sightline.evaluation.truth.watermark import Marked, demo_marked, detection, reliance, tiny_marked
from sightline.methods import find_methods
from sightline.models.load import load
from sightline.plan import make_plan

__all__ = ["CONTROLS", "DEFAULT_METHODS", "SETTINGS", "TESTS", "Outcome", "Sizes", "Suite", "benchmark"]

DEFAULT_METHODS = (
    "grad_cam,hires_cam,layer_cam,gradient,input_x_gradient,smooth_grad,integrated_gradients,guided_backprop,lrp,"
    "occlusion"
)
CONTROLS = ("random", "edges", "centre", "constant")
# Coarser than the methods' own, so that the suite takes minutes.
SETTINGS: Mapping[str, Any] = {
    "occlusion.window": 0.25,
    "occlusion.stride": 0.125,
    "integrated_gradients.steps": 16,
    "smooth_grad.samples": 16,
}
_LEVEL = 0.05
_LEARNED = 0.75


@dataclass(frozen=True)
class Sizes:
    """How many scenes, mosaics, tetrominoes of each kind, stamped scenes and pictures of each net made by hand."""

    scenes: int = 24
    mosaics: int = 6
    tetrominoes: int = 32
    taught: int = 2000
    stamped: int = 15
    handmade: int = 8


@dataclass(eq=False)
class Outcome:
    """What came of one test: each method's values, one a map (NaN: none), what chance would give, and refusals."""

    name: str
    what: str
    chance: float
    values: dict[str, np.ndarray] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    seconds: Counter[str] = field(default_factory=Counter)
    facts: list[str] = field(default_factory=list)

    def take(self, made: Maps, score: Callable[[np.ndarray], np.ndarray], count: int) -> None:
        """Add the values of one set of ``count`` maps a method; NaN where a method was refused, so that all pair."""
        for method in made.seconds:
            values = score(made.found[method]) if method in made.found else np.full(count, np.nan)
            self.values[method] = np.concatenate([self.values.get(method, np.empty(0)), values])
        self.refused |= made.refused
        self.seconds.update(made.seconds)

    def summary(self, method: str) -> Summary | None:
        """Return a method's mean and standard error, or None where it has no value at all."""
        found = summarised(self.values[method]) if method in self.values else None
        return found if found is not None and found.count else None

    def beats_controls(self, method: str) -> bool:
        """Whether a method is above every control, each by a paired test."""
        if method in CONTROLS or self.summary(method) is None:
            return False
        pairs = [compared(self.values[method], self.values[c]) for c in CONTROLS if c in self.values]
        counted = [p for p in pairs if p.count]
        return bool(counted) and all(p.difference > 0 and p.p < _LEVEL for p in counted)


@dataclass(frozen=True, eq=False)
class _Context:
    methods: Sequence[str]
    sizes: Sizes
    seed: int

    def maps(self, model: Any, images: Any, target: Any) -> Maps:
        return maps_of(model, images, self.methods, target, self.seed, SETTINGS)


def _scenes(context: _Context) -> Outcome:
    drawn = scene_set(context.sizes.scenes, context.seed)
    shots = list(drawn.scenes.values())
    masks = np.stack([s.object_mask for s in shots])
    what = "share of the map on the object; demo/honest was taught where to look, which is in its CAMs' favour"
    found = Outcome("scenes", what, float(masks.mean()))
    made = context.maps(load("demo/honest"), drawn.images, [s.label for s in shots])
    found.take(made, lambda maps: inside(maps, masks), len(shots))
    return found


def _mosaics(name: str, what: str) -> Callable[[_Context], Outcome]:
    def test(context: _Context) -> Outcome:
        started = time.perf_counter()
        found = Outcome(name, what, 0.25)
        try:
            measured = list(find_metric(name).compute(_trial(context), mosaics=context.sizes.mosaics))
        except RefusedError as error:
            found.refused |= dict.fromkeys(context.methods, str(error))
            return found
        for method in context.methods:
            found.values[method] = np.concatenate([m.values[method].numpy() for m in measured])
        found.refused |= {m: why for one in measured for m, why in one.refused.items()}
        found.seconds.update(dict.fromkeys(context.methods, (time.perf_counter() - started) / len(context.methods)))
        return found

    return test


def _trial(context: _Context) -> Trial:
    plan = make_plan(
        load("demo/honest"),
        list(context.methods),
        "top1",
        contrast=None,
        layer=None,
        output="logit",
        precision="model",
        seed=context.seed,
        chunk=None,
        parameters={k: v for k, v in SETTINGS.items() if k.partition(".")[0] in context.methods},
        tick=None,
    )
    return Trial(plan, scene_set(6 * context.sizes.mosaics, context.seed + 1).images)


def _tetrominoes(background: Background) -> Callable[[_Context], Outcome]:
    def test(context: _Context) -> Outcome:
        what = f"precision of the strongest pixels on tetrominoes, {background} background"
        found = Outcome(f"tetrominoes, {background}", what, 0.0)
        areas = [_tetromino_test(found, context, scenario, background) for scenario in SCENARIOS]
        found.chance = float(np.mean(areas))
        return found

    return test


def _tetromino_test(found: Outcome, context: _Context, scenario: Scenario, background: Background) -> float:
    """Train a net and test the methods on it; one that has not learned has no truth, and is left out."""
    count = context.sizes.tetrominoes
    taught, shown = (
        tetrominoes(scenario, background, n, context.seed + i)
        for i, n in enumerate((context.sizes.taught, max(count, 200)))
    )
    net = trained(taught, shown, f"tetrominoes, {scenario}, {background}", context.seed)
    found.facts.append(f"{scenario}, {background}: the net is right on {net.accuracy:.0%} of pictures it has not seen")
    if net.accuracy < _LEARNED:
        found.facts.append(f"{scenario}, {background}: left out, for what the net has not learned cannot be shown")
        return float(shown.truth.float().mean())
    masks, labels = shown.truth[:count].numpy(), shown.labels[:count].tolist()
    made = context.maps(net.model, shown.images[:count], labels)
    found.take(made, lambda maps: precision(maps, masks, context.seed), count)
    return float(shown.truth.float().mean())


def _watermark(context: _Context) -> Outcome:
    found = Outcome("watermark", "how surely a net that uses the watermark is told from one that does not", 0.5)
    _detected(found, context, {m.condition: m for m in demo_marked(context.sizes.stamped, context.seed)}, "the demo's")
    sizes = context.sizes
    tiny = tiny_marked(count=max(2, sizes.stamped), seed=context.seed, taught=sizes.taught)
    _detected(found, context, {m.condition: m for m in tiny}, "the tiny")
    return found


def _detected(found: Outcome, context: _Context, nets: Mapping[str, Marked], who: str) -> None:
    for condition, marked in nets.items():
        found.facts.append(
            f"{who} net that saw the watermark {_SAW[condition]}: stamping other classes makes "
            f"{reliance(marked):+.0%} of them its class"
        )
    made = {c: context.maps(m.model, m.stamped, m.target) for c, m in nets.items()}
    on_mark = {
        c: {method: inside(maps, np.broadcast_to(nets[c].mask, maps.shape)) for method, maps in one.found.items()}
        for c, one in made.items()
    }
    using, ignoring = on_mark["dependent"], on_mark["independent"]
    told = {m: detection(using[m], ignoring[m]) for m in using if m in ignoring}
    refused = made["independent"].refused | made["dependent"].refused
    together = replace(made["dependent"], found=told, refused=refused)
    found.take(together, lambda values: values, len(nets["dependent"].plain))
    found.seconds.update(made["independent"].seconds)


_SAW = {"absent": "never", "independent": "on half of every class", "dependent": "on one class only"}


def _handmade(context: _Context) -> Outcome:
    found = Outcome("by hand", "share of the map on what the score is made of, in nets set by hand", 0.0)
    areas = []
    for make in HANDMADE:
        one = make(context.sizes.handmade, context.seed)
        masks = one.truth.numpy()
        made = context.maps(one.model, one.images, 1)
        found.take(made, lambda maps, masks=masks: inside(maps, masks, signed=False), len(masks))  # type: ignore[misc]
        areas.append(float(masks.mean()))
    found.chance = float(np.mean(areas))
    return found


TESTS: Mapping[str, Callable[[_Context], Outcome]] = {
    "by hand": _handmade,
    "scenes": _scenes,
    "grid_pointing_game": _mosaics("grid_pointing_game", "share on the right of four scenes"),
    "difull": _mosaics("difull", "share on the only scene that the score can see"),
    "dipart": _mosaics("dipart", "share on the only scene whose features make the score"),
    "tetrominoes, white": _tetrominoes("white"),
    "tetrominoes, correlated": _tetrominoes("correlated"),
    "watermark": _watermark,
}


@dataclass(frozen=True, eq=False)
class Suite:
    """The outcomes of the tests, for methods and controls, and the seconds that it all took."""

    methods: Sequence[str]
    outcomes: Sequence[Outcome]
    seconds: float

    @property
    def sentences(self) -> list[str]:
        """What the numbers say, in words: about each method, then what was found out about the nets."""
        own = [m for m in self.methods if m not in controls_of(self.methods)]
        return [_sentence(m, self.outcomes) for m in own]

    @property
    def facts(self) -> list[str]:
        """What was found out about the nets before their maps were looked at."""
        return [fact for outcome in self.outcomes for fact in outcome.facts]

    def seconds_of(self, method: str) -> float:
        """Return how long a method took in all tests."""
        return sum(outcome.seconds[method] for outcome in self.outcomes)

    def to_dict(self) -> dict[str, Any]:
        """Return the table and the sentences as plain JSON values."""
        return {
            "tests": {o.name: self._test(o) for o in self.outcomes},
            "sentences": self.sentences,
            "facts": self.facts,
            "seconds": round(self.seconds, 1),
            "seconds_by_method": {m: round(self.seconds_of(m), 2) for m in self.methods},
            "settings": dict(SETTINGS),
        }

    def _test(self, outcome: Outcome) -> dict[str, Any]:
        found = {m: s for m in self.methods if (s := outcome.summary(m)) is not None}
        return {
            "what": outcome.what,
            "chance": outcome.chance,
            "methods": {m: s.to_dict() | {"beats_controls": outcome.beats_controls(m)} for m, s in found.items()},
            "refused": dict(outcome.refused),
        }


def _sentence(method: str, outcomes: Sequence[Outcome]) -> str:
    judged = [o for o in outcomes if o.summary(method) is not None]
    beaten = [o.name for o in judged if not o.beats_controls(method)]
    said = f"{method}: above every control in {len(judged) - len(beaten)} of {len(judged)} tests"
    said += f", not in {' and '.join(beaten)}" if beaten else ""
    blind = next((s for o in outcomes if o.name == "difull" and (s := o.summary(method)) is not None), None)
    if blind is not None and blind.mean < 0.995:
        said += f"; {1 - blind.mean:.0%} of its map lies on pictures that the score cannot see (difull)"
    return said + "."


def benchmark(
    method: str | Sequence[str] = DEFAULT_METHODS,
    *,
    sizes: Sizes | None = None,
    tests: Sequence[str] = tuple(TESTS),
    seed: int = 0,
    on_step: Callable[[str], None] = lambda test: None,
) -> Suite:
    """Run the tests with methods and the four controls; ``on_step`` is told of each test that is done.

    >>> suite = benchmark("input_x_gradient", sizes=Sizes(handmade=2), tests=["by hand"])
    >>> round(suite.outcomes[0].summary("input_x_gradient").mean, 3)
    1.0
    """
    started = time.perf_counter()
    named = [m.name for m in find_methods(method)]
    context = _Context([*named, *(c for c in CONTROLS if c not in named)], sizes or Sizes(), seed)
    return Suite(context.methods, list(_run(context, tests, on_step)), time.perf_counter() - started)


def _run(context: _Context, tests: Sequence[str], on_step: Callable[[str], None]) -> Iterator[Outcome]:
    for name in tests:
        yield TESTS[name](context)
        on_step(name)


def explanations_of(sizes: Sizes, methods: int) -> int:
    """Return how many maps the suite makes."""
    mosaics = (4 + 2 + 2) * sizes.mosaics
    tiny = len(SCENARIOS) * len(BACKGROUNDS) * sizes.tetrominoes + 3 * sizes.stamped
    return methods * (sizes.scenes + mosaics + tiny + 2 * sizes.stamped + len(HANDMADE) * sizes.handmade)
