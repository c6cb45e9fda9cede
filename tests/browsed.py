"""A folder with reports of every kind for the tests of what reads them: small, and made by the library itself."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from sightline.demo.scenes import CLASSES, scene
from sightline.evaluation.mistakes.confusions import find_errors
from sightline.evaluation.run import evaluate
from sightline.models.load import load
from sightline.training.history import write_history
from sightline.training.job import Told
from sightline.training.report import write_results
from trainings import epochs, pictures, training

EACH = 3


def photos(folder: Path) -> Path:
    """Draw marked scenes into a folder for each class: the cheating model takes most of them for stars."""
    for label, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for n in range(EACH):
            drawn = scene(1000 + 10 * n + label, label=label, watermark=True).image
            Image.fromarray(drawn).save(folder / name / f"{name}-{n}.png")
    return folder


def mistakes(root: Path) -> Path:
    """Write the errors of the cheating model over ``photos``, two of them explained."""
    model = load("demo/cheating")
    find_errors(model, photos(root / "photos"), worst=2, examples=1).save(root / "mistakes")
    return root / "mistakes"


def trust(root: Path) -> Path:
    """Measure two methods on a few scenes."""
    out = root / "trust"
    found = evaluate("demo/cheating", "demo/scenes", "grad_cam,gradient", "insertion", limit=6, cards=1, out=out)
    found.report(out / "report.html")
    return out


def trained(root: Path, name: str = "greys", lr: float = 0.001) -> Path:
    """Write the folder of a training that ended, made by hand."""
    out = root / name
    val, test = pictures([0, 9, 120, 128, 255, 250], [0, 0, 0, 1, 2, 2]), pictures([0, 120, 255], [0, 1, 2])
    begin(out, lr)
    write_history(epochs(6, 4), out / "history.csv")
    write_results(training(out, val, test, notes=("2 images are in both parts.",)), Told(), report=False)
    begin(out, lr)
    return out


def begin(out: Path, lr: float = 0.001, epochs: int = 6) -> Path:
    """Write what a training says of itself before its first epoch."""
    out.mkdir(parents=True, exist_ok=True)
    about = {
        "settings": {"model": "greys", "epochs": epochs, "lr": lr, "freeze": "none"},
        "data": {"name": "shades", "hash": "0123", "classes": ["black", "grey", "white"]},
        "start": {"weights": "random", "hash": "0123456789abcdef"},
        "versions": {"sightline": "0.1.0"},
    }
    (out / "run.json").write_text(json.dumps(about))
    return out
