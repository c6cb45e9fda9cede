"""Features computed once: where that is exact, and what happens where there is no room for them."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nets import ChannelsLastNet, ConvNet, SignalNet, TokenNet
from sightline.errors import InputError
from sightline.geometry import Preprocessing
from sightline.models.load import load
from sightline.models.model import Model
from sightline.training import features as module_of_features
from sightline.training.batches import Examples
from sightline.training.data import Part
from sightline.training.features import Tail, features_of, tail_of
from sightline.training.heads import trainable

SMALL = Preprocessing(resize=(16, 16), crop=None, mean=(0.5,) * 3, std=(0.5,) * 3)
SERIES = Preprocessing(resize=None, crop=None, mean=(0.0,) * 2, std=(1.0,) * 2, scale=1.0)


def model_of(module: nn.Module) -> Model:
    return trainable(load(module.eval(), preprocessing=SMALL))


def pictures(count: int = 7) -> Part:
    rng = np.random.default_rng(4)
    return Part(rng.integers(0, 256, (count, 20, 16, 3), dtype=np.uint8), np.arange(count, dtype=np.int64) % 2)


class Head(ConvNet):
    """Uses its head in a way that is named, most of which are more than features into logits."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.scale = way, nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        h = self.pool(self.features(x)).flatten(1)
        return getattr(self, self.way)(h)

    def scaled(self, h: Tensor) -> Tensor:
        return self.head(h) * 2

    def clamped(self, h: Tensor) -> Tensor:
        return self.head(h).clamp(-99, 99)  # what no probe reaches

    def clamped_in_place(self, h: Tensor) -> Tensor:
        return self.head(h).clamp_(-99, 99)

    def twice(self, h: Tensor) -> Tensor:
        self.head(h + 1)
        return self.head(h)

    def gated(self, h: Tensor) -> Tensor:
        return self.head(h) + self.scale * h[:, :5]  # nothing, until the gate opens

    def random(self, h: Tensor) -> Tensor:
        return self.head(F.dropout(h, 0.5))

    def batched(self, h: Tensor) -> Tensor:
        return self.head(h - h.mean(0))

    def by_hand(self, h: Tensor) -> Tensor:
        return F.linear(h, self.head.weight, self.head.bias)

    def folded(self, h: Tensor) -> Tensor:
        return self.head(h.repeat(2, 1))[: len(h)]

    def changed(self, h: Tensor) -> Tensor:
        found = self.head(h)
        h.zero_()  # after it was used
        return found

    def viewed(self, h: Tensor) -> Tensor:
        return self.head(h.unsqueeze(1)).squeeze(1)

    def named(self, h: Tensor) -> Tensor:
        return self.head(input=h)


@pytest.mark.parametrize("way", ["changed", "viewed"])
def test_a_tail_that_gives_the_logits_is_taken(way: str) -> None:
    assert tail_of(model_of(Head(way)), "head") is not None


@pytest.mark.parametrize(
    "way",
    ["scaled", "clamped", "clamped_in_place", "twice", "gated", "random", "batched", "by_hand", "folded", "named"],
)
def test_a_tail_that_is_not_all_there_is_to_the_logits_is_not(way: str) -> None:
    assert tail_of(model_of(Head(way)), "head") is None


class TwoInputs(ConvNet):
    """A head that is given two tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Bilinear(8, 8, 5)  # type: ignore[assignment]

    def forward(self, x: Tensor) -> Tensor:
        h = self.pool(self.features(x)).flatten(1)
        return self.head(h, h)


def test_a_head_of_two_inputs_and_the_whole_net_have_no_tail() -> None:
    assert tail_of(model_of(TwoInputs()), "head") is None
    assert tail_of(model_of(ConvNet()), "") is None


class InPlace(nn.Module):
    """A learned part whose first step overwrites what it is given, and not idempotently."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.end = nn.Conv2d(3, 6, 3), _Halving()

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.body(x))


class _Halving(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 5)

    def forward(self, h: Tensor) -> Tensor:
        return self.head(h.mul_(0.5).mean((2, 3)))


class ChannelsLastTail(nn.Module):
    """Features that lie channels last in memory, for a convolution as head."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.end = nn.Conv2d(3, 6, 3), nn.Sequential(nn.Conv2d(6, 5, 3), nn.AdaptiveAvgPool2d(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.body(x).to(memory_format=torch.channels_last)).flatten(1)


@pytest.mark.parametrize(
    ("make", "learned"),
    [(ConvNet, "head"), (TokenNet, "head"), (ChannelsLastNet, "head"), (InPlace, "end"), (ChannelsLastTail, "end")],
)
def test_the_tail_on_kept_features_is_the_net_on_the_pictures(
    make: type[nn.Module], learned: str, tmp_path: Path
) -> None:
    model = model_of(make())
    tail = tail_of(model, learned)
    assert tail is not None
    _learn_a_little(tail)
    examples, steps = Examples(pictures(), SMALL), list[int]()
    kept = features_of(model, learned, examples, tmp_path / "work" / "train.f32", 3, steps.append)
    assert steps == [3, 3, 1]
    given = [kept[(epoch, n)] for epoch, n in ((0, 4), (5, 4), (1, 6))]
    assert torch.equal(given[0][0], given[1][0])
    assert [int(label) for _, label in given] == [0, 0, 0]
    x = torch.stack([examples.plain(n) for n in range(3)])
    with torch.no_grad():
        assert torch.equal(tail(torch.stack([kept[(0, n)][0] for n in range(3)])), model.module(x))


def _learn_a_little(tail: Tail) -> None:
    with torch.no_grad():
        for parameter in tail.parameters():
            parameter.add_(0.1)


def test_weights_that_the_tail_learned_are_those_of_the_net() -> None:
    model, other = model_of(ConvNet()), model_of(ConvNet())
    tail, theirs = tail_of(model, "head"), tail_of(other, "head")
    assert tail is not None
    assert theirs is not None
    theirs.load_state_dict(tail.state_dict())
    assert torch.equal(other.module.get_parameter("head.weight"), model.module.get_parameter("head.weight"))


def test_series_are_kept_as_features_too(tmp_path: Path) -> None:
    model = trainable(load(SignalNet().eval(), preprocessing=SERIES, dims=1))
    series = np.random.default_rng(0).normal(size=(4, 2, 224)).astype(np.float32)
    part = Part(series, np.zeros(4, np.int64))
    kept = features_of(model, "head", Examples(part, SERIES, 1), tmp_path / "f", 2, lambda steps: None)
    assert tail_of(model, "head") is not None
    assert kept[(0, 3)][0].shape == (8,)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_models_in_half_precision_give_features_in_float32(dtype: torch.dtype, tmp_path: Path) -> None:
    model = load(ConvNet().eval().to(dtype), preprocessing=SMALL)
    kept = features_of(model, "head", Examples(pictures(), SMALL), tmp_path / "f", 4, lambda steps: None)
    assert kept[(0, 0)][0].dtype == torch.float32
    assert np.isfinite(kept.values).all()


class _Full:
    """A disk with room for one batch."""

    def __init__(self, stream: Any) -> None:
        self.stream, self.room = stream, 1

    def write(self, data: Any) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.room -= 1
        return self.stream.write(data)  # type: ignore[no-any-return]


def test_a_full_disk_is_a_sentence_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, file, disks = module_of_features._write, tmp_path / "work" / "train.f32", dict[int, _Full]()

    def full(stream: Any, *rest: Any) -> None:
        write(disks.setdefault(id(stream), _Full(stream)), *rest)

    monkeypatch.setattr(module_of_features, "_write", full)
    with pytest.raises(InputError, match=r"No space left on device.*need 0 MiB there.*make room, or name another"):
        features_of(model_of(ConvNet()), "head", Examples(pictures(), SMALL), file, 3, lambda steps: None)
    assert list(file.parent.iterdir()) == []
