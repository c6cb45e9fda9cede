"""Real weights and photographs, where they are at hand: predictions, where maps peak, the pointing game."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import sightline
from sightline.geometry import Preprocessing
from sightline.models import files
from sightline.models.load import load

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
pytestmark = [
    pytest.mark.shared,
    pytest.mark.slow,
    pytest.mark.skipif(
        not DATA.is_dir(), reason=f"the real weights and photographs are not here ({DATA.name} is absent)"
    ),
]

LABELS = DATA / "weights" / "imagenet_class_index.json"


def deit() -> sightline.Model:
    from sightline.models.zoo import import_torchvision

    module = import_torchvision().models.VisionTransformer(
        image_size=224, patch_size=16, num_layers=12, num_heads=3, hidden_dim=192, mlp_dim=768, num_classes=1000
    )
    file = DATA / "weights" / "deit_tiny_patch16_224.safetensors"
    files.fit_weights(module, files.read_state(file), "deit_tiny", file.name)
    return load(module, labels=LABELS, preprocessing=Preprocessing())


@pytest.fixture(scope="module", params=["mobilenet_v2", "squeezenet1_1", "deit_tiny"])
def named(request: pytest.FixtureRequest) -> tuple[str, sightline.Model]:
    if request.param == "deit_tiny":
        return request.param, deit()
    weights = DATA / "weights" / f"{request.param}.safetensors"
    return request.param, load(request.param, weights=weights, labels=LABELS)


@pytest.fixture(scope="module")
def mobilenet() -> sightline.Model:
    return load("mobilenet_v2", weights=DATA / "weights" / "mobilenet_v2.safetensors", labels=LABELS)


def photographs() -> Iterator[dict[str, str]]:
    with (DATA / "photos" / "labels.csv").open() as stream:
        yield from csv.DictReader(stream)


def test_the_recorded_predictions_are_reproduced(named: tuple[str, sightline.Model]) -> None:
    name, model = named
    rows = list(photographs())
    said = [p[0]["index"] for p in sightline.predict(model, [DATA / "photos" / r["file"] for r in rows])]
    wrong = [r["file"] for r, s in zip(rows, said, strict=True) if int(r[f"pred_{name}"]) != s]
    assert len(wrong) <= 0.02 * len(rows), wrong


@pytest.mark.parametrize(("label", "upper"), [("bull mastiff", True), ("tiger cat", False)])
def test_grad_cam_peaks_on_the_animal_that_is_asked_for(mobilenet: sightline.Model, label: str, upper: bool) -> None:
    e = sightline.explain(mobilenet, DATA / "photos" / "demo_catdog.png", "grad_cam", label)
    row = int(np.unravel_index(np.nanargmax(e.heatmap), e.heatmap.shape)[0])
    assert (row < e.heatmap.shape[0] / 2) == upper  # the dog sits above the cat


REFUSED = {("deit_tiny", m) for m in ("guided_backprop", "deconvnet", "guided_grad_cam", "cam")} | {
    ("squeezenet1_1", "cam")
}
ATTENTION = ("attention", "attention_rollout", "gradient_rollout", "attention_gradient", "attention_flow", "legrad")
REFUSED |= {(name, m) for name in ("squeezenet1_1", "mobilenet_v2") for m in (*ATTENTION, "attn_lrp")}
REFUSED |= {("deit_tiny", "refine_cam")}  # one resolution only
POSITIVE = ("deep_taylor", "excitation_backprop", "contrastive_excitation_backprop")  # activations, as ReLUs give
REFUSED |= {("deit_tiny", m) for m in POSITIVE}
FEW = {"samples": 2, "steps": 4, "evaluations": 20, "count": 9, "window": 0.5, "stride": 0.25}


def test_every_method_explains_a_photograph_or_says_why_not(named: tuple[str, sightline.Model]) -> None:
    from sightline.methods import METHODS

    name, model = named
    for method in METHODS:
        few = {k: v for k, v in FEW.items() if k in METHODS[method].parameters}
        few |= {"channels": 4} if method in ("score_cam", "ss_cam", "is_cam") else {}
        few |= {"threshold": 0.5} if method == "sise" else {}
        few |= {"samples": 200, "count": 30} if method == "anchors" else {}  # fewer tell nothing of any segment
        try:
            e = sightline.explain(model, DATA / "photos" / "demo_catdog.png", method, **few)
        except sightline.RefusedError:
            assert (name, method) in REFUSED
            continue
        assert (name, method) not in REFUSED
        assert np.isfinite(e.attribution).all()
        assert e.attribution.any()


def _boxes() -> dict[str, list[dict[str, str]]]:
    with (DATA / "boxes" / "boxes.csv").open() as stream:
        found: dict[str, list[dict[str, str]]] = {}
        for row in csv.DictReader(stream):
            if row["imagenet_classes"]:  # some of the boxes' classes have no counterpart
                found.setdefault(row["file"], []).append(row)
    return found


def _hits(point: tuple[float, float], rows: list[dict[str, str]]) -> bool:
    y, x = point
    return any(
        float(r["xmin"]) - 15 <= x <= float(r["xmax"]) + 15 and float(r["ymin"]) - 15 <= y <= float(r["ymax"]) + 15
        for r in rows
    )


def test_the_pointing_game_is_not_lost_to_the_centre(
    mobilenet: sightline.Model, capsys: pytest.CaptureFixture[str]
) -> None:
    hits, centre = [], []
    for file, rows in _boxes().items():
        label = rows[0]["label"]
        mine = [r for r in rows if r["label"] == label]
        classes = torch.tensor([int(c) for c in mine[0]["imagenet_classes"].split("|")])
        e = sightline.explain(
            load(mobilenet, fit="squash"),
            DATA / "boxes" / "images" / file,
            "grad_cam",
            lambda logits, classes=classes: logits[:, classes].amax(1),
        )
        point = np.unravel_index(np.nanargmax(e.heatmap), e.heatmap.shape)
        hits.append(_hits((float(point[0]), float(point[1])), mine))
        centre.append(_hits((e.heatmap.shape[0] / 2, e.heatmap.shape[1] / 2), mine))
    with capsys.disabled():
        print(f"\npointing game, {len(hits)} images: grad_cam {np.mean(hits):.3f}, centre {np.mean(centre):.3f}")
    assert np.mean(hits) > 0.6
