"""What sweeps and relevance cost beside the model's own passes, in one run; Score-CAM beside pytorch-grad-cam; memory.

    python benchmarks/sweeps.py [--rounds 5] [--models resnet50,mobilenet_v2] [--threads 2] [--only rise,lrp]

Each round times every entry once, next to its own yardstick: inference of as many images in batches of 16, as many
forward and input-backward passes in batches of 16, or one of both. Medians of the paired ratios are printed. Weights
are random: time does not depend on them.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import sightline
from sightline.models import zoo
from sightline.models.load import load

BATCH = 16
MASKS = 160
STEPS = 50
SCORED = {"resnet50": ("layer1", 256), "mobilenet_v2": ("features.13", 96)}  # a layer, and its channels
MEMORY = """
import sys, sightline
from sightline.demo.scenes import scene
sightline.explain("demo/honest", scene(0).image, "rise", samples=int(sys.argv[1]))
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@dataclass(frozen=True)
class Entry:
    """What is timed, what it is compared with, and what is wanted of the ratio entry / yardstick."""

    run: Callable[[], object]
    yardstick: Callable[[], object]
    wanted: str


def inference(module: nn.Module, x: Tensor, images: int, dtype: torch.dtype | None = None) -> Callable[[], object]:
    batch = x.repeat(BATCH, 1, 1, 1)

    def run() -> None:
        with torch.no_grad(), torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
            for _ in range(images // BATCH):
                module(batch)

    return run


def passes(module: nn.Module, x: Tensor, images: int) -> Callable[[], object]:
    """Forward and input-backward passes with frozen weights."""
    size = min(BATCH, images)

    def run() -> None:
        for _ in range(-(-images // size)):
            leaf = x.repeat(size, 1, 1, 1).requires_grad_()
            torch.autograd.grad(module(leaf)[:, 0].sum(), leaf)

    return run


def entries(name: str, x: Tensor) -> dict[str, Entry]:
    module = zoo.build(name).requires_grad_(False)
    model = load(module)
    layer, channels = SCORED[name]

    def explain(method: str, **more: object) -> Callable[[], object]:
        return lambda: sightline.explain(model, x, method, 0, **more)

    batched, windows = inference(module, x, MASKS), 13 * 13
    once = passes(module, x, 1)
    return {
        "rise": Entry(explain("rise", samples=MASKS), batched, "<= 1.11"),
        "rise, auto": Entry(explain("rise", samples=MASKS, precision="auto"), batched, ""),
        "occlusion": Entry(explain("occlusion", window=0.15, stride=0.075), inference(module, x, windows), "<= 1.11"),
        "score_cam": Entry(explain("score_cam", layer=layer), inference(module, x, channels), "<= 1.11"),
        "score_cam, pytorch-grad-cam": Entry(peer_score_cam(name, layer, x), explain("score_cam", layer=layer), ">= 3"),
        "score_cam, auto": Entry(
            explain("score_cam", layer=layer, precision="auto"), inference(module, x, channels), ""
        ),
        "integrated_gradients, 50": Entry(
            explain("integrated_gradients", steps=STEPS), passes(module, x, STEPS), "<= 1.1"
        ),
        "deep_lift": Entry(explain("deep_lift"), once, "<= 4"),
        **{
            f"lrp {c}": Entry(explain("lrp", composite=c), once, "<= 4")
            for c in ("epsilon_plus", "epsilon_plus_flat", "epsilon_gamma_box", "epsilon_alpha2_beta1")
        },
        "excitation_backprop": Entry(explain("excitation_backprop"), once, "<= 4"),
    }


def peer_score_cam(name: str, layer: str, x: Tensor) -> Callable[[], object]:
    from pytorch_grad_cam import ScoreCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    module = zoo.build(name)
    cam = ScoreCAM(model=module, target_layers=[module.get_submodule(layer)])
    cam.batch_size = BATCH

    def run() -> None:
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
            cam(input_tensor=x, targets=[ClassifierOutputTarget(0)])

    return run


def measure(run: dict[str, Entry], rounds: int) -> dict[str, list[tuple[float, float]]]:
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in run}
    for number in range(rounds + 1):
        for name, entry in run.items():
            pair = timed(entry.yardstick), timed(entry.run)
            if number:  # the first round warms up
                times[name].append(pair)
    return times


def timed(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def report(name: str, run: dict[str, Entry], times: dict[str, list[tuple[float, float]]]) -> None:
    print(f"\n{name}\n{'':34}{'yardstick':>11}{'ratio':>8}{'lowest':>8}{'highest':>8}  wanted")
    for entry, pairs in times.items():
        ratios = [t / b for b, t in pairs]
        base = statistics.median(b for b, _ in pairs)
        low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
        print(f"{entry:34}{base:9.2f} s{middle:8.2f}{low:8.2f}{high:8.2f}  {run[entry].wanted}", flush=True)


def memory() -> None:
    """Print the peak memory of RISE with few and with many masks, each in a process of its own."""
    print("\nrise on demo/honest: peak memory")
    for count in (500, 8000):
        done = subprocess.run([sys.executable, "-c", MEMORY, str(count)], capture_output=True, text=True, check=True)
        print(f"{count:6} masks {int(done.stdout) / 1024:8.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", default="resnet50,mobilenet_v2")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only", default="", help="entries that begin with one of these, separated by commas")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warnings.simplefilter("ignore")  # the other library's own
    print(f"torch {torch.__version__}, {arguments.threads} threads, {arguments.rounds} rounds, one image, 224 x 224")
    x = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    for name in arguments.models.split(","):
        run = {k: e for k, e in entries(name, x).items() if k.startswith(tuple(arguments.only.split(",")))}
        report(name, run, measure(run, arguments.rounds))
    if not arguments.only:
        memory()


if __name__ == "__main__":
    main()
