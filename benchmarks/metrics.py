"""What measuring costs: images x methods x (insertion + deletion + single deletion) on MobileNetV2, in one run.

    python benchmarks/metrics.py [--images 100] [--peers PYTHON] [--subset 4]

The time is compared with the forward passes that it needs at the model's own batched throughput, and with the same
curves by Quantus 0.6 and torchcam 0.5 on a subset, run by the Python of another environment, for they need their own:

    python -m venv peers && peers/bin/pip install torch==2.13.0 torchvision quantus==0.6.0 torchcam==0.5.0

Weights and images are random: time does not depend on them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import sightline
from sightline.evaluation.measure import measure
from sightline.evaluation.measuring import counted
from sightline.evaluation.run import evaluate
from sightline.models import zoo
from sightline.models.load import load

TEN = (
    "grad_cam,grad_cam_plus_plus,layer_cam,hires_cam,gradient,input_x_gradient,guided_backprop,deconvnet,"
    "guided_grad_cam,eigen_grad_cam"
)
METRICS = "insertion,deletion,single_deletion"
PEER = Path(__file__).parent / "peers" / "curves.py"


def throughput(module: nn.Module, batch: int = 16, rounds: int = 5) -> float:
    """Seconds that the module takes for one image in batches, the best of some rounds."""
    x = torch.randn(batch, 3, 224, 224)
    best = float("inf")
    with torch.no_grad():
        for _ in range(rounds):
            started = time.perf_counter()
            module(x)
            best = min(best, time.perf_counter() - started)
    return best / batch


def ours(model: sightline.Model, x: Tensor, precision: str) -> tuple[float, int]:
    """Seconds and forward passes of the whole evaluation, controls included."""
    with counted(model) as passed:
        started = time.perf_counter()
        evaluate(model, x, TEN, METRICS, precision=precision)
        return time.perf_counter() - started, passed[0]


def curves_alone(model: sightline.Model, x: Tensor) -> tuple[float, dict[str, np.ndarray]]:
    """Seconds for Grad-CAM with deletion and insertion of a subset, as the peers are timed; and its inputs."""
    started = time.perf_counter()
    made = sightline.explain(model, x, "grad_cam")
    classes = [e.target.index for e in made]
    maps = np.stack([e.at_input() for e in made])
    measure(model, maps, x, "deletion,insertion", target=sightline.targets.per_image(classes), batch_size=len(x))
    return time.perf_counter() - started, {"x": x.numpy(), "y": np.array(classes), "maps": maps}


def peers(python: str, module: nn.Module, inputs: dict[str, np.ndarray]) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        weights, data = Path(folder, "weights.pt"), Path(folder, "inputs.npz")
        torch.save(module.state_dict(), weights)
        np.savez(data, **inputs)
        run = subprocess.run([python, str(PEER), str(weights), str(data)], capture_output=True, text=True, check=True)
    return json.loads(run.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--subset", type=int, default=4)
    parser.add_argument("--peers", metavar="PYTHON")
    chosen = parser.parse_args()
    torch.set_num_threads(2)
    module = zoo.build("mobilenet_v2").eval()
    model = load(module)
    x = torch.randn(chosen.images, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    each = throughput(module)
    print(f"the model alone: {1000 * each:.1f} ms an image in batches of 16")
    for precision in ("model", "auto"):
        seconds, passes = ours(model, x, precision)
        maps = chosen.images * (len(TEN.split(",")) + 4)
        print(
            f"evaluate, precision {precision}: {seconds:.1f} s, {passes} forward passes for {maps} maps; "
            f"{seconds / (passes * each):.2f} x the time of those passes"
        )
    seconds, inputs = curves_alone(model, x[: chosen.subset])
    print(f"grad_cam with deletion and insertion, {chosen.subset} images: {seconds:.2f} s")
    if chosen.peers:
        for name, took in peers(chosen.peers, module, inputs).items():
            print(f"{name}: {took:.2f} s, {took / seconds:.2f} x ours")


if __name__ == "__main__":
    main()
