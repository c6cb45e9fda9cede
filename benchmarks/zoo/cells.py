"""One network times every method: what Sightline gives, and whether that is right."""

from __future__ import annotations

import math
import time
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

import sightline
from sightline.engine import explanations
from sightline.errors import LayerError, SightlineError
from sightline.methods import METHODS
from sightline.models.model import Model

from .nets import Case
from .peers import distance, peers
from .references import CAMS, OTHERS, SAMPLES, STEPS, MeaninglessError, Truth, UnknownError
from .subjects import Subject

TOLERANCE = 1e-3
_SLOPE = 1e-2
OUTCOMES = ("right", "refused", "wrong", "untrue refusal", "crashed", "not measured")
BAD = ("wrong", "untrue refusal", "crashed")
_TRIED_CLASSES = 8


@dataclass(frozen=True)
class Cell:
    """One method on one network; ``why`` says what was refused, wrong or not measured."""

    method: str
    outcome: str
    why: str = ""
    peers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """One network: its cells, and the layer that Sightline would read."""

    source: str
    family: str
    name: str
    size: int = 0
    layer: str = ""
    kind: str = ""
    grid: tuple[int, ...] = ()
    is_cut: bool = True
    cells: tuple[Cell, ...] = ()
    seconds: float = 0.0
    failed: str = ""

    @property
    def question(self) -> str:
        """What is odd about the default layer, or nothing."""
        if self.failed:
            return ""
        if not self.grid:
            return "no layer"
        if min(self.grid) < 2 <= self.size // 32:
            return "few positions"
        if max(self.grid) > self.size // 8:
            return "an early stage?"
        return "" if self.is_cut else "a branch"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Result:
        cells = tuple(Cell(**c) for c in values["cells"])
        return cls(**{**values, "cells": cells, "grid": tuple(values["grid"])})


def measure(case: Case, methods: Sequence[str] | None = None, *, with_peers: bool = True) -> Result:
    """Build a network and measure every method on it. A network that cannot be built is a result with ``failed``."""
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the architectures' own
        try:
            subject = case.build()
            with torch.no_grad():
                finite = bool(torch.isfinite(subject.scores(subject.x)).all())
        except Exception as error:  # noqa: BLE001  not ours: it is reported, and the others are still measured
            return Result(case.source, case.family, case.name, failed=_said(error))
        if not finite:
            return Result(case.source, case.family, case.name, failed="its own scores are not finite")
        found = examine(subject, methods or referenced(), with_peers=with_peers)
    return Result(case.source, case.family, case.name, **found, seconds=round(time.perf_counter() - started, 1))


def referenced() -> list[str]:
    """The registered methods that have a reference here: without one, nothing can be right or wrong."""
    return [m for m in METHODS if m in CAMS or m in OTHERS]


def examine(subject: Subject, methods: Sequence[str], *, with_peers: bool = True) -> dict[str, Any]:
    """Return the input's size, the default layer with its type and grid, and the cells, as `Result` has them."""
    model = sightline.load(subject.net)
    size = subject.x.shape[-1]
    try:
        layer = next((one for one in model.layers(subject.x) if one.default), None)
    except Exception as error:  # noqa: BLE001  a crash is an outcome
        outcome = "untrue refusal" if isinstance(error, SightlineError) else "crashed"
        return {"size": size, "cells": tuple(Cell(m, outcome, _said(error)) for m in methods)}
    truth = choose(subject, layer.name if layer else None, model)
    positions = math.prod(layer.spatial or ()) if layer else 0
    judged = judge(model, truth, methods, positions)
    others = peers(truth, list(methods)) if with_peers else {}
    cells = tuple(Cell(m, *judged[m], others.get(m, {})) for m in methods)
    if layer is None:
        return {"size": size, "cells": cells}
    grid = tuple(layer.spatial or ())
    return {
        "size": size, "layer": layer.name, "kind": layer.kind, "grid": grid, "is_cut": truth.is_cut, "cells": cells
    }  # fmt: skip


def judge(model: Model, truth: Truth, methods: Sequence[str], positions: int) -> dict[str, tuple[str, str]]:
    """Compare, and what differs once more with less rounding: {method: (outcome, why)}."""
    found = _compared(model, truth, methods, positions)
    try:
        double = truth.subject.double()
    except Exception:  # noqa: BLE001  it cannot be copied or converted: what single precision said, stands
        return found
    if double is None:
        again, closer, chunk = truth, model, 1
    else:
        again, closer, chunk = Truth(double, truth.target, truth.layer, truth.how), sightline.load(double.net), None
    wrong = [m for m, (outcome, _) in found.items() if outcome == "wrong"]
    # Where two channels of a pooling are all but equal, single precision and the batch size decide which one wins.
    second = _compared(closer, again, wrong, positions, chunk) if wrong else {}
    found |= {m: ("right", f"{found[m][1]} before rounding was taken out") for m in wrong if second[m][0] == "right"}
    if double is not None and "gradient" in found:
        found["gradient"] = _sloped(found["gradient"], again)
    return found


def _sloped(found: tuple[str, str], truth: Truth) -> tuple[str, str]:
    """Hold the gradient against finite differences, which no autograd takes part in."""
    try:
        gap = truth.slope_gap()
    except Exception:  # noqa: BLE001  it does not run in double precision: autograd's verdict stands
        return found
    return ("wrong", f"its length is {gap:.2g} off the slope") if gap > _SLOPE and found[0] == "right" else found


def _compared(
    model: Model, truth: Truth, methods: Sequence[str], positions: int, chunk: int | None = None
) -> dict[str, tuple[str, str]]:
    wanted = {m: _wanted(truth, m) for m in methods}
    found = _explained(model, truth, list(methods), wanted, chunk)
    return {m: _judged(found[m], wanted[m][0], positions) for m in methods}


def choose(subject: Subject, layer: str | None, model: Model) -> Truth:
    """Choose the best class whose Grad-CAM is not all cut off: a zero map would be right whatever was computed."""
    with torch.no_grad():
        classes = subject.scores(subject.x)[0].argsort(descending=True)[:_TRIED_CLASSES].tolist()
    every = [Truth(subject, c, layer, model.preprocessing) for c in classes]
    if layer is None:
        return every[0]
    return next((t for t in every if _shows(t)), every[0])


def _shows(truth: Truth) -> bool:
    try:
        return bool(truth.wanted("grad_cam").any())
    except UnknownError:
        return True


_Wanted = tuple[Tensor | Exception, bool]


def _wanted(truth: Truth, method: str) -> _Wanted:
    """The reference and whether it is rectified: where that would leave nothing, the map before is compared."""
    try:
        cut = truth.wanted(method)
        if cut.any() or "relu" not in METHODS[method].parameters:
            return cut, True
        return truth.wanted(method, relu=False), False
    except (MeaninglessError, UnknownError) as error:
        return error, True
    except Exception as error:  # noqa: BLE001  counted as not measured, with this reason
        return UnknownError(f"the reference failed: {_said(error)}"), True


def _explained(
    model: Model, truth: Truth, methods: list[str], wanted: dict[str, _Wanted], chunk: int | None
) -> dict[str, Tensor | Exception]:
    """All methods in one call, as they are used together; each by itself where that call ends early."""
    found: dict[str, Tensor | Exception] = {}
    parameters = _parameters(methods, wanted)
    try:
        every = explanations(
            model,
            truth.subject.x,
            methods,
            truth.target,
            chunk=chunk,
            parameters=parameters,
            on_failure=lambda f: found.update(dict.fromkeys([f.method] if f.method else methods, f.error)),
        )
        found.update({e.method: torch.as_tensor(e.attribution)[None] for _, e in every})
    except Exception as error:  # noqa: BLE001  a crash: each method is tried alone, to count whose it is
        found.update({m: error for m in methods if m not in found})
        if len(methods) > 1:
            for m in methods:
                found |= _explained(model, truth, [m], wanted, chunk)
    return found


def _parameters(methods: list[str], wanted: dict[str, _Wanted]) -> dict[str, Any]:
    own = {m: METHODS[m].parameters for m in methods}
    small = {f"{m}.{k}": v for m, p in own.items() for k, v in (("samples", SAMPLES), ("steps", STEPS)) if k in p}
    return small | {f"{m}.relu": False for m in methods if not wanted[m][1]}


def _judged(found: Tensor | Exception, wanted: Tensor | Exception, positions: int) -> tuple[str, str]:
    if isinstance(found, SightlineError):
        return _judged_refusal(found, wanted, positions)
    if isinstance(found, Exception):
        return "crashed", _said(found)
    if isinstance(wanted, MeaninglessError):
        return "wrong", f"a map, where {wanted}"
    if isinstance(wanted, Exception):
        return "not measured", str(wanted)
    if not wanted.any():
        return "not measured", "the reference is zero everywhere"
    if found.shape != wanted.shape:
        return "wrong", f"its shape is {tuple(found.shape)}, not {tuple(wanted.shape)}"
    off = distance(found, wanted)
    return ("right", "") if off < TOLERANCE else ("wrong", f"{off:.2g} off")


def _judged_refusal(found: SightlineError, wanted: Tensor | Exception, positions: int) -> tuple[str, str]:
    if isinstance(wanted, UnknownError) and positions >= 2:
        return "not measured", f"refused ({found}), and {wanted}"
    true = isinstance(wanted, MeaninglessError) or (isinstance(found, LayerError) and positions < 2)
    if isinstance(wanted, Tensor) and (not torch.isfinite(wanted).all() or not wanted.any()):
        true = True
    return "refused" if true else "untrue refusal", str(found)


def _said(error: BaseException) -> str:
    where = traceback.extract_tb(error.__traceback__)[-1:] if error.__traceback__ else []
    place = f" at {where[0].filename.rpartition('/')[2]}:{where[0].lineno}" if where else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}{place}"
