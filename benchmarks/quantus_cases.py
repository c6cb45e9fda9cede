"""Cases with a known answer, scored by Quantus 0.6 and by us side by side.

    python benchmarks/quantus_cases.py --peers PYTHON

PYTHON is that of an environment with quantus==0.6.0 (see benchmarks/metrics.py). Ours are asserted in the tests too.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import nn

from sightline.evaluation.measure import measure
from sightline.evaluation.run import evaluate

PEER = Path(__file__).parent / "peers" / "quantus_cases.py"


def small_net(channels: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    ).eval()  # fmt: skip


def inputs(count: int = 20) -> tuple[torch.Tensor, np.ndarray]:
    drawn = np.random.default_rng(0)
    x = torch.from_numpy(drawn.normal(size=(count, 3, 16, 16)).astype(np.float32))
    return x, drawn.normal(size=(count, 16, 16)).astype(np.float32)


def scored(metric: str, count: int = 20, **more: object) -> np.ndarray:
    x, maps = inputs(count)
    return measure(small_net(), maps, x, metric, **more)[metric]


def random_order() -> str:
    values = scored("single_deletion")
    return f"single_deletion {values.mean():.2f} ± {values.std(ddof=1) / len(values) ** 0.5:.2f}: chance is 0"


def road() -> str:
    return f"{len(scored('road', 4))} values, one an image: {np.round(scored('road', 4), 3).tolist()}"


def batches(metric: str) -> Callable[[], str]:
    def run() -> str:
        small, large = (scored(metric, batch_size=size) for size in (8, 20))
        return (
            f"{len(small)} values; in batches of 8 and of 20 they differ by {np.abs(small - large).max():.1e} at most"
        )

    return run


def irof() -> str:
    return f"{np.round(scored('irof', 4), 3).tolist()}"


def pointing_game() -> str:
    half, tied = np.zeros((16, 16), bool), np.zeros((2, 16, 16), np.float32)
    half[:, 8:], tied[:, 4, [2, 12]] = True, 1
    x, maps = inputs(2)
    how = {"parameters": {"pointing_game.tolerance": 0}}
    empty = measure(small_net(), maps, x, "pointing_game", truth=np.zeros((16, 16), bool), **how)["pointing_game"]
    ties = measure(small_net(), tied, x, "pointing_game", truth=half, **how)["pointing_game"]
    return f"empty mask: {empty.tolist()}; largest both on and off the object: {ties.tolist()}"


def completeness() -> str:
    torch.manual_seed(0)
    layer = nn.Linear(3 * 16 * 16, 2, bias=False)
    x, _ = inputs(4)
    weights = layer.weight.detach()[0].reshape(1, 3, 16, 16)
    net = nn.Sequential(nn.Flatten(), layer).eval()
    gap = measure(net, (x * weights).sum(1).numpy(), x, "completeness_gap", target=0)["completeness_gap"]
    return f"gap at most {gap.max():.1e}"


def randomization() -> str:
    x, _ = inputs(4)
    found = evaluate(small_net(), x, "gradient", "parameter_randomization")
    return f"{found.summary('parameter_randomization')['gradient'].mean:.3f}, the unchanged model not counted"


def sparseness() -> str:
    x, maps = inputs(2)
    scaled = np.abs(maps) * np.array([1.0, 1e9], np.float32).reshape(2, 1, 1)
    alone = measure(small_net(), scaled[:1], x[:1], "gini")["gini"][0]
    return f"alone {alone:.3f}, beside a map 1e9 times larger {measure(small_net(), scaled, x, 'gini')['gini'][0]:.3f}"


def localisation() -> str:
    x, maps = inputs(2)
    mask = np.zeros((16, 16), bool)
    mask[:, :8] = True
    found = measure(small_net(), np.abs(maps), x, "energy_pointing_game", truth=mask)["energy_pointing_game"]
    return f"{np.round(found, 3).tolist()}: the area is 0.5"


def infidelity() -> str:
    return str(np.round(scored("infidelity", 2, parameters={"infidelity.cells": 5}), 3).tolist())


OURS: dict[str, Callable[[], str]] = {
    "monotonicity of random maps": random_order,
    "ROAD of RGB images": road,
    "ROAD of 20 images, 9 to 20 mislabelled, in batches of 8 and of 20": batches("road"),
    "sensitivity-n of 20 images": batches("sensitivity_n"),
    "IROF of RGB images": irof,
    "pointing game": pointing_game,
    "completeness of the exact attribution of a linear model": completeness,
    "MPRT of the gradient": randomization,
    "sparseness of a map": sparseness,
    "weighted localisation of two images": localisation,
    "infidelity where patches do not divide the side": infidelity,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", metavar="PYTHON", required=True)
    run = subprocess.run([parser.parse_args().peers, str(PEER)], capture_output=True, text=True, check=True)
    theirs = json.loads(run.stdout.strip().splitlines()[-1])
    table = Table(box=box.SIMPLE_HEAD, title="The same cases", title_justify="left")
    for heading in ("case", "Quantus 0.6", "sightline"):
        table.add_column(heading, overflow="fold")
    for case, ours in OURS.items():
        table.add_row(case, theirs[case], ours())
    Console(width=150, markup=False).print(table)


if __name__ == "__main__":
    main()
