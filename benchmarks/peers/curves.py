"""Deletion and insertion by Quantus and torchcam, run by an environment of their own; prints seconds as JSON.

    python curves.py WEIGHTS.pt INPUTS.npz

INPUTS holds x (N, 3, 224, 224), y (N,) and maps (N, 224, 224). The same model, inputs and classes as ours;
Quantus takes only steps that divide the picture's positions, and flips a map's channels one by one.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from functools import partial

import numpy as np
import torch

for schema in (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
):
    torch.library.define(f"torchvision::{schema.partition('(')[0]}", "(" + schema.partition("(")[2])
from torchvision.models import mobilenet_v2  # noqa: E402

STEPS = 28


def timed(run) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def quantus_flipping(model, x, y, maps, step: int) -> float:
    import quantus

    metric = quantus.PixelFlipping(features_in_step=step, disable_warnings=True, perturb_baseline="mean")
    return timed(lambda: metric(model=model, x_batch=x, y_batch=y, a_batch=maps[:, None], softmax=True, device="cpu"))


def torchcam_curves(model, x, y) -> float:
    from torchcam.methods import GradCAM
    from torchcam.metrics import DeletionInsertionMetric

    extractor = GradCAM(model, target_layer="features")
    metric = DeletionInsertionMetric(extractor, partial(torch.softmax, dim=-1), steps=STEPS)
    return timed(lambda: metric.update(torch.from_numpy(x), [int(c) for c in y]))


def main() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(2)
    weights, inputs = sys.argv[1:3]
    data = np.load(inputs)
    x, y, maps = data["x"], data["y"], data["maps"]
    model = mobilenet_v2().eval()
    model.load_state_dict(torch.load(weights, weights_only=True))
    with torch.no_grad():
        model(torch.from_numpy(x))
    found = {
        "quantus PixelFlipping, 1792 features a step, 84 steps (deletion alone)": quantus_flipping(
            model, x, y, maps, 1792
        ),
        "quantus PixelFlipping, 224 features a step (1 image)": quantus_flipping(model, x[:1], y[:1], maps[:1], 224),
        "torchcam deletion + insertion, 28 steps, with its Grad-CAM": torchcam_curves(model, x, y),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
