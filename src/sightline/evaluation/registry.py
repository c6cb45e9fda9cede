"""The register of metrics: a decorated function over a case is a metric, and its signature is its only schema."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from sightline.errors import ParameterError, suggest
from sightline.schema import Parameter, checked, fold, schema_of

__all__ = [
    "FAMILIES",
    "METRICS",
    "Better",
    "Metric",
    "Need",
    "find_metric",
    "find_metrics",
    "metric",
    "metric_parameters",
]

_Function = TypeVar("_Function", bound=Callable[..., Any])
Better = Literal["higher", "lower", "neither"]
Need = Literal["truth", "method", "mosaic"]
FAMILIES = ("faithfulness", "localization", "randomization", "robustness", "axiom", "complexity")


@dataclass(frozen=True, eq=False)
class Metric:
    """A registered metric: ``compute(case, **parameters)`` gives one number for each map (N,), NaN where undefined.

    One over mosaics is given a `Trial` and yields what came of each mosaic.
    ``better`` says which way is good; "neither" only describes. ``needs`` has "truth" where it compares with where the
    object is, "method" where it explains again, and "mosaic" where it is computed over mosaics of several images.
    The number after @ in ``versioned`` changes whenever the same map would get another number.
    """

    name: str
    compute: Callable[..., Any]
    family: str
    better: Better
    version: int
    cite: str
    needs: frozenset[Need]
    parameters: Mapping[str, Parameter]

    @property
    def judges(self) -> bool:
        """Whether a better value than a control's speaks for a map.

        A constant map is the most stable and simple; and to depend on the model a little more than a map that never saw
        it proves nothing.
        """
        return self.better != "neither" and self.family in ("faithfulness", "localization")

    @property
    def versioned(self) -> str:
        """The name with the version of its definition, as deletion@1."""
        return f"{self.name}@{self.version}"

    @property
    def summary(self) -> str:
        """The first sentence of the metric's docstring."""
        return (inspect.getdoc(self.compute) or "").partition("\n")[0]


METRICS: dict[str, Metric] = {}

_SPELLINGS = {
    "pixelflip": "pixel_flipping",
    "epg": "energy_pointing_game",
    "relevancemass": "energy_pointing_game",
    "relevancemassaccuracy": "energy_pointing_game",
    "attributionlocalisation": "energy_pointing_game",
    "attributionlocalization": "energy_pointing_game",
    "relevancerankaccuracy": "relevance_rank",
    "topk": "top_k_intersection",
    "mprt": "parameter_randomization",
    "mufidelity": "mu_fidelity",
    "sensitivitymax": "max_sensitivity",
    "avgsensitivity": "average_sensitivity",
    "idsds": "single_deletion",
    "gridpg": "grid_pointing_game",
    "averagedropincrease": "average_increase",
    "completeness": "completeness_gap",
    "sparseness": "gini",
    "complexity": "entropy",
    "inputinvariance": "input_shift_invariance",
}


def metric(
    *, family: str, better: Better, cite: str, version: int = 1, needs: Need | tuple[Need, ...] = ()
) -> Callable[[_Function], _Function]:
    """Register a function over a case as a metric."""

    def register(compute: _Function) -> _Function:
        name = getattr(compute, "__name__", "")
        wanted: tuple[Need, ...] = (needs,) if isinstance(needs, str) else needs
        METRICS[name] = Metric(
            name, compute, family, better, version, cite, frozenset(wanted), schema_of(compute, skip=1)
        )
        return compute

    return register


def find_metric(name: str) -> Metric:
    """Return the metric of that name, in any usual spelling, with or without its version.

    Raises ParameterError for an unknown one, with close names, or for a version that this release does not compute.
    """
    wanted, _, version = name.partition("@")
    folded = fold(wanted)
    known = {fold(n): n for n in METRICS} | _SPELLINGS
    if folded not in known or known[folded] not in METRICS:
        hint = suggest(wanted, METRICS) or suggest(folded, {fold(n): n for n in METRICS})
        raise ParameterError(f"there is no metric '{name}'.{hint} See: sightline metrics.")
    found = METRICS[known[folded]]
    if version and version != str(found.version):
        raise ParameterError(f"'{name}': this release computes {found.versioned}, which gives other numbers.")
    return found


def find_metrics(names: str | Iterable[str]) -> list[Metric]:
    """Return the metrics of a comma-separated string or a list of names, each once."""
    if not isinstance(names, (str, list, tuple)) or not all(isinstance(n, str) for n in names):
        raise ParameterError(f"metric={names!r}: wanted a name or a list of names; see: sightline metrics.")
    listed = names.split(",") if isinstance(names, str) else list(names)
    found = [find_metric(n.strip()) for n in listed if n.strip()]
    if not found:
        raise ParameterError("no metric was given; see: sightline metrics.")
    return list(dict.fromkeys(found))


def metric_parameters(metrics: Iterable[Metric], given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return every metric's parameters, defaults filled in; ``given`` are named metric.parameter.

    Raises ParameterError for a name that no metric of the call has, or a value that does not fit.
    """
    chosen = {m.name: m for m in metrics}
    resolved = {m.name: {p.name: p.default for p in m.parameters.values()} for m in chosen.values()}
    for key, value in given.items():
        prefix, _, name = key.rpartition(".")
        owner = find_metric(prefix)
        if owner.name not in chosen:
            raise ParameterError(f"parameter '{key}': {owner.name} is not among the metrics of this call.")
        if name not in owner.parameters:
            hint = suggest(name, owner.parameters) or f" It has: {', '.join(owner.parameters) or 'none'}."
            raise ParameterError(f"{owner.name} has no parameter '{name}'.{hint}")
        resolved[owner.name][name] = checked(value, owner.parameters[name], owner.name)
    return resolved
