"""Models that fail: on one image, which alone is a row with its error, or on all, which ends the run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sightline
from batches import HERE, done, errors, job_of, left_over, net_model, rows, scenes
from sightline.batch.run import How
from sightline.batch.store import open_store
from sightline.errors import InputError, LayerError, ModelError, SightlineError, TargetError


@pytest.fixture(scope="module")
def honest() -> sightline.Model:
    return sightline.load("demo/honest")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return scenes(tmp_path / "photos", 8)


def marked(photos: Path, *numbers: int) -> None:
    """Make some scenes all white, a corner of each another colour: what tells them to a troubled model."""
    for number in numbers:
        pixels = np.full((96, 96, 3), 255, np.uint8)
        pixels[-1, -1] = number
        Image.fromarray(pixels).save(photos / f"{number:03}.png")


def white(x: torch.Tensor) -> torch.Tensor:
    return (x[:, :, :-1] == 1).flatten(1).all(1)


def refuse(x: torch.Tensor) -> None:
    if white(x).any():
        raise RuntimeError("my own mistake")


def crash(x: torch.Tensor) -> None:
    if white(x).any():
        raise ZeroDivisionError  # no kind that is expected of a model


def overflow(x: torch.Tensor) -> None:
    x[white(x)] = torch.nan


class Backward(torch.autograd.Function):
    """Nothing forward; backward it fails on a white picture."""

    @staticmethod
    def forward(ctx, x):
        ctx.white = bool(white(x).any())
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        if ctx.white:
            raise RuntimeError("no way back")
        return g


def backward(x: torch.Tensor) -> None:
    x.copy_(Backward.apply(x))


@pytest.mark.parametrize("trouble", [refuse, crash, overflow, backward])
@pytest.mark.parametrize("metrics", [(), ("single_deletion",)])
def test_exactly_the_culprits_fail(photos: Path, tmp_path: Path, trouble, metrics: tuple[str, ...]) -> None:
    scenes(photos, 8, first=8)
    marked(photos, 3, 9, 10)
    troubled, sound = net_model(trouble), net_model()
    job = job_of(troubled, "grad_cam", "gradient", metrics=metrics)
    summary = done(photos, job, tmp_path / "s", How(workers=0, batch_size=16))
    assert (summary.failed, summary.rows) == (3, 32)
    assert summary.explained == (16 if trouble is backward else 13)  # Grad-CAM does not go back that far
    assert errors(tmp_path / "s").keys() == {"003.png", "009.png", "010.png"}
    assert all("\n" not in e and "003" not in e for e in errors(tmp_path / "s").values())
    for p in (3, 9, 10):
        (photos / f"{p:03}.png").unlink()
    done(
        photos, job_of(sound, "grad_cam", "gradient", metrics=metrics), tmp_path / "clean", How(workers=0, batch_size=1)
    )
    alone = {(r["image"], r["method"]): r for r in rows(tmp_path / "clean")}
    for one in (r for r in rows(tmp_path / "s") if r["error"] is None):
        if Path(one["image"]).stem in ("003", "009", "010"):
            continue
        other = alone[one["image"], one["method"]]
        assert one["key"] == other["key"]
        assert one["heatmap_scale"] == pytest.approx(other["heatmap_scale"], rel=1e-5)
        assert one["score"] == pytest.approx(other["score"], abs=1e-6)
        assert np.allclose(one["heatmap"], other["heatmap"], atol=1e-3)
        assert dict(one["metrics"] or {}).keys() == dict(other["metrics"] or {}).keys() >= set(metrics)


def test_a_culprit_costs_two_passes_for_each_halving(photos: Path, tmp_path: Path) -> None:
    scenes(photos, 24, first=8)
    spent = {}
    for count in (0, 1, 2):
        marked(photos, *(3, 29)[:count])
        model = net_model(refuse)
        done(photos, job_of(model), tmp_path / str(count), How(workers=0, batch_size=32))
        spent[count] = model.module.passes
    assert spent[1] - spent[0] <= 2 * 5
    assert spent[2] - spent[0] <= 4 * 5


def test_a_method_that_refuses_now_and_then_loses_no_other_row(photos: Path, tmp_path: Path) -> None:
    marked(photos, 2)
    summary = done(
        photos,
        job_of(net_model(backward), "occlusion", "gradient", parameters={"window": 48, "stride": 48}),
        tmp_path / "s",
    )
    assert {(Path(r["image"]).name, r["method"]) for r in rows(tmp_path / "s") if r["error"]} == {
        ("002.png", "gradient")
    }
    assert (summary.explained, summary.failed, summary.rows) == (8, 1, 16)


@pytest.mark.parametrize("metrics", [(), ("single_deletion",)])
def test_a_model_that_fails_on_every_image_ends_the_run(tmp_path: Path, metrics: tuple[str, ...]) -> None:
    photos = scenes(tmp_path / "photos", 40)

    def always(x: torch.Tensor) -> None:
        raise RuntimeError("my own mistake")

    model = net_model(always)
    with pytest.raises(
        SightlineError, match=r"my own mistake.* So it was with each of the first 8 images \(gradient, top1\)"
    ):
        done(photos, job_of(model, "gradient", metrics=metrics), tmp_path / "s", How(workers=0, batch_size=8))
    assert not open_store(tmp_path / "s").commits
    assert model.module.passes < 40


def test_a_method_that_refuses_the_model_ends_the_run_before_it_fills_a_store(tmp_path: Path) -> None:
    photos = scenes(tmp_path / "photos", 20)
    model = net_model()
    with pytest.raises(SightlineError, match=r"attention.*each of the first 8 images \(attention_rollout, top1\)"):
        done(photos, job_of(model, "gradient", "attention_rollout"), tmp_path / "s", How(workers=0, batch_size=4))
    few = done(scenes(tmp_path / "few", 2), job_of(model, "gradient", "attention_rollout"), tmp_path / "few_s")
    assert (few.explained, few.failed, few.rows) == (2, 2, 4)


def test_a_store_that_is_begun_is_never_hopeless(photos: Path, tmp_path: Path) -> None:
    model = net_model(refuse)
    done(photos, job_of(model), tmp_path / "s")
    marked(photos, *range(20, 30))
    summary = done(photos, job_of(model), tmp_path / "s", dataclasses.replace(HERE, resume=True))
    assert (summary.failed, summary.rows, summary.already) == (10, 10, 8)


def test_pictures_that_cannot_be_decoded_do_not_end_a_run(tmp_path: Path, honest) -> None:
    photos = scenes(tmp_path / "photos", 1, first=99)
    for number in range(12):
        (photos / f"{number:03}.png").write_bytes(b"")
    summary = done(photos, job_of(honest), tmp_path / "s")
    assert (summary.explained, summary.failed) == (1, 12)
    assert len({r["key"] for r in rows(tmp_path / "s")}) == 13


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"layers": ("nope",)}, LayerError),
        ({"targets": ("nope",)}, TargetError),
        ({"targets": (999,)}, TargetError),
        ({"targets": ("top1", "top1")}, InputError),
        ({"parameters": {"nope": 1}}, InputError),
        ({"heatmap": 0}, InputError),
        ({"metrics": ("nope",)}, InputError),
    ],
)
def test_what_no_image_could_make_right_ends_the_run(photos: Path, tmp_path: Path, asked, error) -> None:
    with pytest.raises(error):
        done(photos, job_of(net_model(), **asked), tmp_path / "s")
    assert not (tmp_path / "s").exists() or not open_store(tmp_path / "s").commits


def test_a_device_that_is_lost_ends_the_run_and_makes_no_rows(photos: Path, tmp_path: Path) -> None:
    done(photos, job_of(net_model()), tmp_path / "s")
    marked(photos, 30)

    def lost(x: torch.Tensor) -> None:
        if white(x).any():
            raise torch.AcceleratorError("device-side assert")

    model = net_model(lost)
    with pytest.raises(ModelError, match="has to be begun with anew: go on with --resume"):
        done(photos, job_of(model), tmp_path / "s")
    assert len(rows(tmp_path / "s")) == 8
    assert not left_over(tmp_path / "s")
