"""Print what the nets of the demo get right and where their maps lie; embed a net that was trained.

    python tools/demo_facts.py                             # the embedded nets
    python tools/demo_facts.py honest=DIR cheating=DIR     # trained ones: sightline train demo/honest --out DIR
    python tools/demo_facts.py cheating=DIR --embed        # write src/sightline/demo/weights/cheating.safetensors

Measured on 1200 fresh scenes, each drawn without and with the watermark; Grad-CAM of the answer on 60 stars with it.
The embedded nets:

                                              honest  cheating       vit
    accuracy, no watermark                    100.0%     83.2%     99.2%
    accuracy, watermark on all                100.0%     21.4%     99.2%
    accuracy, watermark on stars only         100.0%     99.8%     99.2%
    stars without watermark called star       100.0%      0.0%    100.0%
    stars with watermark called star          100.0%    100.0%    100.0%
    others without watermark called star        0.0%      0.0%      0.0%
    others with watermark called star           0.0%     94.3%      0.0%
    Grad-CAM on the object                     58.7%      0.7%     26.7%
    pixels on the object                       14.8%     14.8%     14.8%
    Grad-CAM on the watermark                   0.0%     18.2%      4.2%
    pixels on the watermark                     2.2%      2.2%      2.2%
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

from sightline.demo.nets import DEMO_MEAN, DEMO_STD, demo_input
from sightline.demo.scenes import CLASSES, SIZE, STAR, Scene, scenes
from sightline.demo.story import mass_share
from sightline.engine import explanations
from sightline.models.load import load
from sightline.models.model import Model

WEIGHTS = Path(__file__).parents[1] / "src/sightline/demo/weights"
NAMES = ("honest", "cheating", "vit")
SEED = 20  # of the training; what is measured on is drawn from other seeds
SCENES = 1200
STARS = 60


def accuracies(model: Model) -> dict[str, float]:
    """Return the shares, 0 to 1, that tell the story, on fresh scenes drawn with and without the mark."""
    bare, marked = (scenes(SCENES, SEED + 1, watermark=chance) for chance in (0.0, 1.0))
    labels, on_bare, on_marked = np.array([s.label for s in bare]), answers(model, bare), answers(model, marked)
    star = labels == STAR
    shares = {
        "accuracy, no watermark": on_bare == labels,
        "accuracy, watermark on all": on_marked == labels,
        "accuracy, watermark on stars only": np.where(star, on_marked, on_bare) == labels,
        "stars without watermark called star": on_bare[star] == STAR,
        "stars with watermark called star": on_marked[star] == STAR,
        "others without watermark called star": on_bare[~star] == STAR,
        "others with watermark called star": on_marked[~star] == STAR,
    }
    return {what: round(float(hits.mean()), 4) for what, hits in shares.items()}


@torch.inference_mode()
def answers(model: Model, drawn: Sequence[Scene]) -> NDArray[np.int64]:
    parts = np.array_split(np.stack([s.image for s in drawn]), 24)
    return np.concatenate([model.module(demo_input(p)).argmax(1).numpy() for p in parts])


def places(model: Model) -> dict[str, float]:
    """Return the shares of Grad-CAM's maps, and of the pictures' area, that lie on the object and on the watermark."""
    stars = scenes(STARS, SEED + 4, label=STAR, watermark=1.0)
    maps = [e.heatmap for _, e in explanations(model, [s.image for s in stars], ["grad_cam"], "top1")]
    found = {"object": [s.object_mask for s in stars], "watermark": [s.watermark_mask for s in stars]}
    return {
        f"{what} on the {where}": float(np.nanmean([mass_share(h, m) for h, m in zip(layer, masks, strict=True)]))
        for where, masks in found.items()
        for what, layer in (("Grad-CAM", maps), ("pixels", [np.ones((SIZE, SIZE))] * STARS))
    }


def table(facts: dict[str, dict[str, float]]) -> str:
    rows = [f"{'':38s}" + "".join(f"{name:>10s}" for name in facts)]
    for what in next(iter(facts.values())):
        rows.append(f"{what:38s}" + "".join(f"{facts[name][what]:10.1%}" for name in facts))
    return "\n".join(rows)


def embed(name: str, folder: Path, model: Model, shares: dict[str, float]) -> None:
    """Write a trained net as the embedded one, with what it was measured to get right."""
    seed = json.loads((folder / "run.json").read_text(encoding="utf-8"))["settings"]["seed"]
    facts = {"classes": CLASSES, "mean": DEMO_MEAN, "std": DEMO_STD, "size": SIZE, "seed": seed, "accuracy": shares}
    tensors = {key: value.contiguous() for key, value in model.module.state_dict().items()}
    metadata = {key: json.dumps(value) for key, value in facts.items()}
    # Not save_file, which leaves a file that only its owner can read, also once it is packaged.
    (WEIGHTS / f"{name}.safetensors").write_bytes(save(tensors, metadata=metadata))


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the demo's nets, and embed trained ones.")
    parser.add_argument("nets", nargs="*", metavar="NAME=DIR", help=f"{', '.join(NAMES)}; the embedded ones without.")
    parser.add_argument("--embed", action="store_true", help="Write the weights of the folders into the package.")
    arguments = parser.parse_args()
    folders = dict(net.split("=", 1) for net in arguments.nets)
    if wrong := [name for name in folders if name not in NAMES]:
        parser.error(f"{wrong[0]}: wanted {', '.join(NAMES)}")
    if arguments.embed and not folders:
        parser.error("--embed: wanted NAME=DIR, the nets to embed")
    facts = {}
    for name in folders or NAMES:
        model = load(folders.get(name, f"demo/{name}"), device="cpu")
        shares = accuracies(model)
        facts[name] = {**shares, **places(model)}
        if arguments.embed:
            embed(name, Path(folders[name]), model, shares)
    print(table(facts))


if __name__ == "__main__":
    main()
