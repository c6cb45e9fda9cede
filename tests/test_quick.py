"""precision="auto": bfloat16 where the first points agree, said in the result; else what "model" gives, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sightline
from nets import make
from sightline import quick

SAMPLES = 40


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quick, "has_fast_bfloat16", lambda device: True)


def rise(net: nn.Module, x: Tensor, precision: str, **more: object) -> sightline.Explanation:
    (found,) = sightline.explain(net, x[:1], "rise", 1, precision=precision, samples=SAMPLES, **more)
    return found


class Precise(nn.Module):
    """Scores that differ by less than bfloat16 can tell apart."""

    def forward(self, x: Tensor) -> Tensor:
        small = x.flatten(1).mean(1)
        with torch.autocast("cpu", enabled=False):
            scores = torch.stack((small, 1000 + small), 1)
        return scores.to(torch.bfloat16).float() if torch.is_autocast_enabled("cpu") else scores


def test_bfloat16_is_used_where_it_agrees(fast: None) -> None:
    net, x = make("residual", torch.float32)
    exact, auto = rise(net, x, "model"), rise(net, x, "auto")
    assert exact.notes == ()
    assert "ran in bfloat16" in auto.notes[0]
    assert not np.array_equal(exact.attribution, auto.attribution)
    assert np.corrcoef(exact.attribution.ravel(), auto.attribution.ravel())[0, 1] > quick.LEAST


def test_bfloat16_is_not_used_where_it_loses_the_differences(fast: None) -> None:
    x = torch.randn((1, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    exact, auto = rise(Precise(), x, "model"), rise(Precise(), x, "auto")
    assert "tried and not used" in auto.notes[0]
    assert np.array_equal(exact.attribution, auto.attribution)


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_the_probes_do_not_depend_on_the_chunk(fast: None, chunk: int) -> None:
    net, x = make("residual", torch.float32)
    a, b = rise(net, x, "auto", chunk=chunk), rise(net, x, "auto", chunk=16)
    assert np.allclose(a.attribution, b.attribution, atol=2e-2 * np.abs(b.attribution).max())
    assert a.notes[0][:30] == b.notes[0][:30]


def test_short_sweeps_and_float64_are_not_touched(fast: None) -> None:
    net, x = make("residual", torch.float32)
    few = [rise(net, x, p, chunk=8) for p in ("model", "auto")]
    short = [sightline.explain(net, x[:1], "rise", 1, precision=p, samples=10)[0] for p in ("model", "auto")]
    assert np.array_equal(short[0].attribution, short[1].attribution)
    assert short[1].notes == ()
    assert few[1].notes
    wide, y = make("residual", torch.float64)
    assert rise(wide, y, "auto").notes == ()


def test_a_device_without_bfloat16_gives_what_model_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quick, "has_fast_bfloat16", lambda device: False)
    net, x = make("residual", torch.float32)
    exact, auto = rise(net, x, "model"), rise(net, x, "auto")
    assert np.array_equal(exact.attribution, auto.attribution)
    assert auto.notes == ()


def test_the_worst_of_several_images_decides(fast: None) -> None:
    found = quick._correlation(torch.tensor([[1.0, 1.0], [2.0, 2.0]]), torch.tensor([[1.0, 2.0], [2.0, 1.0]]))
    assert found == pytest.approx(-1)
    assert quick._correlation(torch.ones(4, 2), torch.ones(4, 2)) == 1


def test_gradients_are_not_touched(fast: None) -> None:
    net, x = make("residual", torch.float32)
    exact, auto = (sightline.explain(net, x[:1], "integrated_gradients", 1, precision=p)[0] for p in ("model", "auto"))
    assert np.array_equal(exact.attribution, auto.attribution)
