"""Tetrominoes in noise: tiny pictures of two classes, where by construction only some pixels tell the class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.errors import ParameterError
from sightline.geometry import Preprocessing
from sightline.labels import Labels
from sightline.models.model import Model

__all__ = ["BACKGROUNDS", "SCENARIOS", "Background", "Scenario", "Tetrominoes", "tetrominoes", "tiny_net", "trained"]

Scenario = Literal["linear", "multiplicative", "translation", "xor"]
Background = Literal["white", "correlated"]
SCENARIOS: tuple[Scenario, ...] = get_args(Scenario)
BACKGROUNDS: tuple[Background, ...] = get_args(Background)
SIDE = 8

_T = np.array([[0, 1, 0], [1, 1, 1]], float)
_L = np.array([[1, 0], [1, 0], [1, 1]], float)
_PLACES = ((1, 1), (4, 5))
_SMOOTHING = 3.0
# How much of a picture is pattern and not background, as in the paper.
_ALPHA: Mapping[tuple[Scenario, Background], float] = {
    ("linear", "white"): 0.18,
    ("multiplicative", "white"): 0.7,
    ("translation", "white"): 0.65,
    ("xor", "white"): 0.35,
    ("linear", "correlated"): 0.0125,
    ("multiplicative", "correlated"): 0.1,
    ("translation", "correlated"): 0.2,
    ("xor", "correlated"): 0.15,
}


@dataclass(frozen=True, eq=False)
class Tetrominoes:
    """Pictures (N, 1, 8, 8) with their classes (N,), 0 for T and 1 for L, and the pixels (N, 8, 8) that tell them."""

    images: Tensor
    labels: Tensor
    truth: Tensor

    def __len__(self) -> int:
        return len(self.labels)


def tetrominoes(scenario: Scenario, background: Background, count: int, seed: int = 0) -> Tetrominoes:
    """Draw pictures of a scenario (Clark et al. 2023, arXiv:2306.12816, sec. 3), each scaled to a mean square of 1.

    ``linear`` adds a T at the upper left or an L at the lower right; ``multiplicative`` dampens the background there;
    ``translation`` adds either anywhere, in any rotation; ``xor`` shows both, of one sign (class 0) or of two. What
    is missing at its fixed place tells as much as what is there, so both places count but under ``translation``.

    >>> drawn = tetrominoes("linear", "white", 4)
    >>> drawn.images.shape, drawn.truth.sum((1, 2)).tolist()
    (torch.Size([4, 1, 8, 8]), [8, 8, 8, 8])
    """
    if (scenario, background) not in _ALPHA:
        raise ParameterError(
            f"tetrominoes {scenario!r}, {background!r}: wanted one of {', '.join(SCENARIOS)} on white or correlated."
        )
    rng = np.random.default_rng((seed, SCENARIOS.index(scenario), BACKGROUNDS.index(background)))
    labels = rng.permutation(np.arange(count) % 2)
    patterns, truth = _drawn_patterns(scenario, labels, rng)
    noise, alpha = _unit(_noise(background, count, rng)), _ALPHA[scenario, background]
    if scenario == "multiplicative":
        mixed = (1 - alpha * patterns) * noise
    else:
        mixed = alpha * _unit(patterns) + (1 - alpha) * noise
    images = torch.from_numpy(_unit(mixed) * SIDE).float().unsqueeze(1)
    return Tetrominoes(images, torch.from_numpy(labels), torch.from_numpy(truth))


def _unit(maps: np.ndarray) -> np.ndarray:
    return np.asarray(maps / np.sqrt((maps**2).sum((1, 2), keepdims=True)))


def _noise(background: Background, count: int, rng: np.random.Generator) -> np.ndarray:
    white = rng.standard_normal((count, SIDE, SIDE))
    if background == "white":
        return white
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(white, (0, _SMOOTHING, _SMOOTHING)))


def _drawn_patterns(scenario: Scenario, labels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the patterns (N, 8, 8) of the classes, and where the picture tells its class."""
    t, el = _placed(_T, _PLACES[0]), _placed(_L, _PLACES[1])
    if scenario == "translation":
        found = np.stack([_anywhere((_T, _L)[label], rng) for label in labels])
        return found, found != 0
    both = np.broadcast_to((t + el) != 0, (len(labels), SIDE, SIDE)).copy()
    if scenario != "xor":
        return np.stack([t, el])[labels], both
    first = rng.choice([-1.0, 1.0], len(labels))
    second = np.where(labels == 0, first, -first)
    return first[:, None, None] * t + second[:, None, None] * el, both


def _placed(shape: np.ndarray, place: tuple[int, int]) -> np.ndarray:
    found = np.zeros((SIDE, SIDE))
    found[place[0] : place[0] + shape.shape[0], place[1] : place[1] + shape.shape[1]] = shape
    return found


def _anywhere(shape: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    turned = np.rot90(shape, int(rng.integers(4)))
    row, column = (int(rng.integers(SIDE - side + 1)) for side in turned.shape)
    return _placed(turned, (row, column))


def tiny_net(width: int = 32) -> nn.Module:
    """Return an untrained net of two convolutions and a linear layer, from (N, 1, 8, 8) to logits (N, 2)."""
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(width * SIDE**2, 2),
    )


@dataclass(frozen=True, eq=False)
class Trained:
    """A net that was trained here, as a model, and how often it is right on pictures it has not seen."""

    model: Model
    accuracy: float


def trained(drawn: Tetrominoes, unseen: Tetrominoes, name: str, seed: int = 0, epochs: int = 12) -> Trained:
    """Train a tiny net on pictures, in seconds; the same seed gives the same net, and no other generator is touched."""
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        net = _fitted(tiny_net(), drawn, epochs)
    with torch.no_grad():
        right = net(unseen.images).argmax(1) == unseen.labels
    how = Preprocessing(resize=SIDE, crop=SIDE, mean=(0.5,), std=(0.25,))
    model = Model(net, name, how, Labels(("T", "L")), weights=f"trained here, seed {seed}")
    return Trained(model, float(right.float().mean()))


def _fitted(net: nn.Module, drawn: Tetrominoes, epochs: int, batch: int = 64) -> nn.Module:
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.1)
    steps = epochs * -(-len(drawn) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for _ in range(epochs):
        for rows in torch.randperm(len(drawn)).split(batch):
            optimizer.zero_grad()
            F.cross_entropy(net(drawn.images[rows]), drawn.labels[rows]).backward()
            optimizer.step()
            schedule.step()
    return net.eval()
