"""Print what the embedded net of MNIST-1D gets right and where its maps lie; embed one that was trained.

    python tools/mnist1d_facts.py                   # the embedded net
    python tools/mnist1d_facts.py DIR               # a trained one: sightline train mnist1d --out DIR
    python tools/mnist1d_facts.py DIR --embed       # write src/sightline/demo/weights/mnist1d.safetensors

Measured on the 1000 test signals, on 2000 fresh ones (200 of each digit), and by maps of the true digit on 20 of each.
The embedded net:

    accuracy, 1000 test signals                88.1%
    accuracy, 2000 fresh signals               89.0%
    grad_cam on the digit                      69.9%
    gradient on the digit                      47.1%
    input_x_gradient on the digit              75.8%
    integrated_gradients on the digit          80.7%
    occlusion on the digit                     71.0%
    random on the digit                        20.7%
    constant on the digit                      20.8%
    points on the digit                        20.8%
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save

from sightline.demo.mnist1d import Placed, make_mnist1d, mnist1d_signal
from sightline.engine import explain
from sightline.evaluation.measure import measure
from sightline.models.load import load
from sightline.models.model import Model

WEIGHTS = Path(__file__).parents[1] / "src/sightline/demo/weights"
DIGITS = range(10)
FRESH = 200  # of each digit
EXPLAINED = 20  # of each digit
METHODS = ("grad_cam", "gradient", "input_x_gradient", "integrated_gradients", "occlusion", "random", "constant")

Drawn = list[tuple[NDArray[np.float64], Placed]]


def fresh(each: int) -> Drawn:
    return [mnist1d_signal(digit, seed) for digit in DIGITS for seed in range(each)]


@torch.inference_mode()
def accuracy(model: Model, signals: NDArray[np.float64], digits: Sequence[int] | NDArray[np.int64]) -> float:
    """Return the share of signals (N, 40) whose digit is named."""
    logits = model.module(torch.from_numpy(signals).float().unsqueeze(1))
    return float((logits.argmax(1).numpy() == digits).mean())


def accuracies(model: Model) -> dict[str, float]:
    published, drawn = make_mnist1d(), fresh(FRESH)
    signals, digits = np.stack([values for values, _ in drawn]), [placed.digit for _, placed in drawn]
    return {
        "accuracy, 1000 test signals": accuracy(model, published.x_test, published.y_test),
        "accuracy, 2000 fresh signals": accuracy(model, signals, digits),
    }


def places(model: Model) -> dict[str, float]:
    """Return the share of each method's maps, and of the points, that lies on the digit."""
    drawn = fresh(EXPLAINED)
    truth = np.stack([placed.at for _, placed in drawn])
    found = {f"{method} on the digit": on_digit(model, drawn, method, truth) for method in METHODS}
    return {**found, "points on the digit": float(truth.mean())}


def on_digit(model: Model, drawn: Drawn, method: str, truth: NDArray[np.bool_]) -> float:
    shares = [
        measure(model, explain(model, values, method, placed.digit), [values], "energy_pointing_game", truth=at[None])
        for (values, placed), at in zip(drawn, truth, strict=True)
    ]
    return float(np.nanmean([s["energy_pointing_game"] for s in shares]))


def embed(folder: Path, model: Model, shares: dict[str, float]) -> None:
    """Write a trained net as the embedded one, with what it was measured to get right."""
    seed = json.loads((folder / "run.json").read_text(encoding="utf-8"))["settings"]["seed"]
    facts = {"classes": [str(d) for d in DIGITS], "length": 40, "seed": seed, "accuracy": shares}
    tensors = {key: value.contiguous() for key, value in model.module.state_dict().items()}
    # Not save_file, which leaves a file that only its owner can read, also once it is packaged.
    packed = save(tensors, metadata={key: json.dumps(value) for key, value in facts.items()})
    (WEIGHTS / "mnist1d.safetensors").write_bytes(packed)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the net of MNIST-1D, and embed a trained one.")
    parser.add_argument("folder", nargs="?", type=Path, help="What sightline train mnist1d wrote; else the embedded.")
    parser.add_argument("--embed", action="store_true", help="Write the weights of the folder into the package.")
    asked = parser.parse_args()
    if asked.embed and not asked.folder:
        parser.error("--embed: wanted DIR, the net to embed")
    model = load(str(asked.folder or "demo/mnist1d"), device="cpu")
    shares = accuracies(model)
    if asked.embed:
        embed(asked.folder, model, shares)
    for what, share in {**shares, **places(model)}.items():
        print(f"    {what:38s}{share:10.1%}")


if __name__ == "__main__":
    main()
