"""Every pair of calls in docs/coming-from.md is run, and does what the page's third column says."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL.Image import Image

import peers
import sightline
from sightline.explanation import Explanation
from sightline.heatmap import resize_array
from sightline.methods import METHODS
from sightline.models.keras import import_keras
from sightline.models.zoo import import_torchvision

pytestmark = [pytest.mark.reference, pytest.mark.filterwarnings("ignore")]  # the others' own

import_torchvision()  # where its compiled operators do not fit, the others could not import it either
PAGE = (Path(__file__).resolve().parents[1] / "docs" / "coming-from.md").read_text(encoding="utf-8")
HEAD, *PARTS = re.split(r"^## ", PAGE, flags=re.MULTILINE)
SECTIONS = {part.partition("\n")[0]: part for part in PARTS}
KERAS = "tf-explain and tf-keras-vis"
NEEDS = {
    "pytorch-grad-cam": "pytorch_grad_cam",
    "torchcam": "torchcam",
    "captum": "captum",
    "shap": "shap",
    KERAS: "keras",
}
SAME, OTHER = 1e-3, 1e-2


class Pair(NamedTuple):
    section: str
    theirs: str
    ours: str
    says: str

    def __str__(self) -> str:
        return f"{self.section}: {self.theirs}"


PAIRS = [
    Pair(section, *row)
    for section in NEEDS
    for row in re.findall(r"^\| `(.+)` \| `(.+)` \| (.+) \|$", SECTIONS[section], re.MULTILINE)
]


@cache
def code(section: str) -> Any:
    shown = HEAD + SECTIONS[section]
    return compile("\n".join(re.findall(r"```python\n(.+?)```", shown, re.DOTALL)), section, "exec")


def namespace(section: str) -> peers.Names:
    """Run what the page shows before its tables and in the section; each pair gets nets of its own."""
    reason = f"{NEEDS[section]}, which the section is about, is not installed"
    if section == KERAS and import_keras().backend.backend() != "torch":
        pytest.skip("keras runs on another backend")
    pytest.importorskip(NEEDS[section], reason=reason)
    names: peers.Names = {"__name__": "page"}
    exec(code(section), names)
    peers.seed_all()
    return names


def as_array(result: Any) -> np.ndarray:
    if isinstance(result, Explanation):
        return as_array(result.attribution)
    if isinstance(result, (list, tuple)):
        return np.stack([as_array(one) for one in result]).squeeze()
    return np.asarray(result.detach() if isinstance(result, torch.Tensor) else result, dtype=np.float64).squeeze()


def distance(found: Any, wanted: Any) -> float:
    """Return the largest difference, as a share of the largest value."""
    found, wanted = as_array(found), as_array(wanted)
    assert found.shape == wanted.shape
    assert wanted.any()
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def their_result(pair: Pair, names: peers.Names) -> Any:
    """Return what theirs gives, which is what is written out for it, where it is."""
    written = peers.formula(pair.theirs)
    if pair.section == KERAS:
        assert written is not None
        return written(names)
    result = eval(pair.theirs, names)
    if written is not None:
        assert distance(written(namespace(pair.section)), result) < SAME
    return result


def either_side(pair: Pair, names: peers.Names) -> list[np.ndarray]:
    """Return ours as it is and turned over, both cut at zero and scaled as pytorch-grad-cam does."""

    def both(explanations: list[Explanation]) -> list[np.ndarray]:
        (e,) = explanations
        return [
            peers.unit(resize_array(np.maximum(sign * e.attribution, 0), e.input_size, "bilinear")) for sign in (1, -1)
        ]

    how = {"explain": lambda *given, **more: sightline.explain(*given, **more, relu=False), "unit": both}
    return eval(pair.ours, {**names, **how})


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_a_pair_does_what_the_page_says(pair: Pair) -> None:
    names = namespace(pair.section)
    if pair.says.startswith("drawn"):
        if pair.section != KERAS:
            eval(pair.theirs, names)
        picture = eval(pair.ours, names)
        assert isinstance(picture, Image)
        assert picture.size == (16, 16)
        return
    theirs = their_result(pair, names)
    if pair.says.startswith("same or its negative"):
        assert min(distance(side, theirs) for side in either_side(pair, names)) < SAME
        return
    gap = distance(eval(pair.ours, names), theirs)
    if within := re.match(r"within (\d+) %", pair.says):
        assert gap < int(within[1]) / 100
    elif pair.says.startswith("differs"):
        assert gap > OTHER
    else:
        assert pair.says.startswith("same")
        assert gap < SAME


def test_what_differs_is_written_out_or_shown_to_be_something_else() -> None:
    same = {pair.theirs for pair in PAIRS if pair.says.startswith("same")}
    different = [pair for pair in PAIRS if pair.says.startswith("differs")]
    assert len(different) > 10
    assert all(peers.formula(pair.theirs) is not None or pair.theirs in same for pair in different)


def test_every_row_with_code_is_a_pair_and_every_formula_is_used() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    assert len(rows) == len(PAIRS)
    for start in peers.FORMULAS:
        assert any(pair.theirs.startswith(start) for pair in PAIRS), start


def test_the_methods_that_the_page_names_are_there() -> None:
    named = set(re.findall(r'"([a-z]+(?:_[a-z]+)+|gradient|lime|lrp|cam|activations)"', PAGE))
    assert len(named & set(METHODS)) > 25
