"""Performance information curves against a loop written out, and the images on which they are undefined."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from faithful import noise_like, normal, pixel_net
from sightline.errors import RefusedError
from sightline.evaluation.measure import measure
from sightline.evaluation.measuring import counted
from sightline.evaluation.metrics import pic
from sightline.models.load import load
from sightline.points import gaussian_blur
from sightline.targets import contrast

SIZE = 32
NET, X, EXACT = pixel_net(SIZE, SIZE)
HIDDEN = {name: {f"{name}.fill": "zero"} for name in ("sic", "aic")}
MAPS = EXACT + EXACT.std() * noise_like(EXACT)


def size_of(image: Tensor, own: Tensor) -> int:
    pixels = ((image - own.min()) / (own.max() - own.min()) * 255).round().clamp(0, 255).to(torch.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(file, "WEBP", lossless=True, quality=50, method=0)
    return len(file.getvalue())


def by_the_book(image: Tensor, heat: Tensor, name: str) -> float:
    """Show the best pixels of one image; area of the best answer so far over the bytes, both scaled to 0 to 1."""
    hidden, order = torch.zeros_like(image), torch.argsort(heat.flatten(), descending=True)
    sizes, heights = [], []
    for share in pic.SHOWN:
        shown = torch.zeros(SIZE * SIZE, dtype=torch.bool)
        shown[order[: round(share * SIZE * SIZE)]] = True
        picture = torch.where(shown.reshape(1, SIZE, SIZE), image, hidden)
        with torch.no_grad():
            probability = float(torch.softmax(NET(picture[None]).double(), 1)[0, 0])
        sizes.append(size_of(picture, image))
        heights.append(probability if name == "sic" else float(probability > 0.5))
    x, y = (np.clip((np.array(v) - v[0]) / (v[-1] - v[0]), 0, 1) for v in (sizes, heights))
    x, y = x[np.argsort(x, kind="stable")], np.maximum.accumulate(y)[np.argsort(x, kind="stable")]
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2))


@pytest.mark.parametrize("name", ["sic", "aic"])
def test_the_area_is_that_of_a_loop_over_shares(name: str) -> None:
    found = measure(NET, MAPS, X, name, target=0, parameters=HIDDEN[name])[name]
    loops = [by_the_book(x, m, name) for x, m in zip(X, MAPS, strict=True)]
    np.testing.assert_allclose(found, loops, atol=1e-5)
    assert 0 < min(loops) < max(loops) < 1


def test_both_are_computed_from_the_same_passes() -> None:
    model = load(NET)
    with counted(model) as passed:
        measure(model, MAPS, X, "sic,aic", target=0, parameters=HIDDEN["sic"] | HIDDEN["aic"])
    assert passed[0] == len(X) * (1 + len(pic.SHOWN))


@pytest.mark.parametrize("name", ["sic", "aic"])
def test_images_are_undefined_that_the_model_is_not_sure_of_or_that_say_nothing_more_than_their_blur(name: str) -> None:
    x = X.clone()
    x[1] *= 0.5  # not sure
    x[2] = X[2].mean()  # flat
    found = measure(NET, EXACT, x, name, target=0, parameters=HIDDEN[name])[name]
    assert np.isnan(found).tolist() == [False, True, True, False]
    sure = torch.softmax(NET(x[1:2]), 1)[0, 0].item()
    at_all = measure(NET, EXACT[1:2], x[1:2], name, target=0, parameters=HIDDEN[name] | {f"{name}.least": sure - 0.01})[
        name
    ]
    assert np.isfinite(at_all).all() == (name == "sic" or sure > 0.5)


def test_a_class_that_is_not_the_answer_has_no_accuracy() -> None:
    found = measure(NET, -EXACT, X, "aic,sic", target=1, parameters={"aic.least": 0.0, "sic.least": 0.0})
    assert np.isnan(found["aic"]).all()


def test_a_target_that_is_no_class_has_no_accuracy() -> None:
    with pytest.raises(RefusedError, match="no class; use sic"):
        measure(NET, EXACT, X, "aic", target=contrast(0, 1))


def test_other_inputs_than_pictures_are_refused() -> None:
    net, x, exact = pixel_net(12, 12, channels=4)
    with pytest.raises(RefusedError, match="one or three channels"):
        measure(net, exact, x, "sic", target=0)


def test_more_bytes_stand_for_more_detail() -> None:
    detailed, smooth = normal(3, SIZE, SIZE).float(), gaussian_blur(normal(1, 3, SIZE, SIZE).float(), 3)[0]
    assert size_of(detailed, detailed) > 1.5 * size_of(smooth, smooth)
