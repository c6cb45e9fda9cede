"""To register a metric is to be tested: what every one of them holds to, whatever it measures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sightline
from nets import ConvNet, SignalNet
from sightline.errors import RefusedError
from sightline.evaluation import METRICS
from sightline.evaluation.measure import measure
from sightline.evaluation.registry import FAMILIES

PLAIN = [name for name, m in METRICS.items() if "mosaic" not in m.needs]
# The sum itself is what it measures.
SCALED = {"completeness_gap"}
# They explain again, and what comes back is not scaled with the map that was given.
OF_METHODS = {name for name in PLAIN if "method" in METRICS[name].needs}
PICTURES_ONLY = {"road", "road_morf", "road_lerf", "sic", "aic", "jpeg_stability"}
FEW = {
    "attained_deletion.orders": 2, "sensitivity_n.samples": 12, "infidelity.samples": 12,
    "mu_fidelity.samples": 12, "deletion.steps": 5, "insertion.steps": 5, "pixel_flipping.steps": 5, "aopc.steps": 4,
    "aopc_lerf.steps": 4, "irof.steps": 4, "max_sensitivity.samples": 2, "average_sensitivity.samples": 2,
    "local_lipschitz.samples": 2, "relative_input_stability.samples": 2, "smooth_randomization.samples": 2,
}  # fmt: skip


def few(name: str) -> dict[str, Any]:
    return {
        k: v for k, v in FEW.items() if k.partition(".")[0] == name and k.partition(".")[2] in METRICS[name].parameters
    }


@contextmanager
def global_state_untouched() -> Iterator[None]:
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    yield
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])


def made(count: int = 3) -> tuple[nn.Module, Tensor, np.ndarray, np.ndarray]:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        net = ConvNet().double().eval()
        x = torch.randn(count, 3, 24, 24, dtype=torch.float64)
    maps = np.random.default_rng(1).normal(size=(count, 24, 24))
    truth = np.zeros((count, 24, 24), bool)
    truth[:, 6:14, 8:20] = True
    return net, x, maps, truth


def scored(name: str, net: nn.Module, x: Tensor, maps: np.ndarray, truth: np.ndarray, **more: Any) -> np.ndarray:
    method = "gradient" if name in OF_METHODS else None
    if method:
        maps = np.stack([e.at_input() for e in sightline.explain(net, x, method, target=0)])
    with global_state_untouched():
        return measure(net, maps, x, name, target=0, truth=truth, method=method, parameters=few(name), **more)[name]


@pytest.mark.parametrize("name", PLAIN)
def test_one_number_an_image_whatever_the_batch(name: str) -> None:
    net, x, maps, truth = made()
    together = scored(name, net, x, maps, truth)
    assert together.shape == (3,)
    assert together.dtype == np.float64
    assert not np.isinf(together).any()
    assert not np.isnan(together).all() or name in ("dummy", "aic", "sic", "attained_deletion")
    alone = [scored(name, net, x[i : i + 1], maps[i : i + 1], truth[i : i + 1])[0] for i in range(3)]
    np.testing.assert_allclose(together, alone, rtol=1e-6, atol=1e-8)
    order = [2, 0, 1]
    moved = scored(name, net, x[order], maps[order], truth[order], batch_size=2)
    np.testing.assert_allclose(moved, together[order], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", [n for n in PLAIN if n not in SCALED | OF_METHODS])
def test_the_size_of_a_maps_numbers_does_not_matter(name: str) -> None:
    net, x, maps, truth = made(2)
    plain = scored(name, net, x, maps, truth)
    np.testing.assert_allclose(scored(name, net, x, 1e3 * maps, truth), plain, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", PLAIN)
def test_a_map_of_zeros_is_undefined_or_in_a_drawn_order_never_an_error(name: str) -> None:
    net, x, maps, truth = made(2)
    values = scored(name, net, x, 0 * maps, truth)
    assert values.shape == (2,)
    assert not np.isinf(values).any()


@pytest.mark.parametrize("name", PLAIN)
def test_series_are_measured_or_refused_with_a_sentence(name: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net, x = SignalNet().eval(), torch.randn(2, 2, 40)
    maps, truth = np.random.default_rng(0).normal(size=(2, 40)), np.zeros((2, 40), bool)
    truth[:, 5:15] = True
    if name in PICTURES_ONLY:
        with pytest.raises(RefusedError, match="picture"):
            scored(name, net, x, maps, truth)
    else:
        assert scored(name, net, x, maps, truth).shape == (2,)


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_is_described(name: str) -> None:
    spec = METRICS[name]
    assert spec.name == name == spec.compute.__name__
    assert spec.family in FAMILIES
    assert spec.summary.endswith(".")
    assert 20 < len(spec.summary) < 140
    assert any(c.isdigit() for c in spec.cite)
    assert spec.version >= 1
