"""Methods that look at scores only, against captum and pytorch-grad-cam, where these are right."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nets import ConvNet, drawn
from test_reference import as_theirs, importorskip, mine

pytestmark = pytest.mark.reference

TARGETS = torch.tensor([1, 3])
STRIPES = torch.arange(4).repeat_interleave(2)[:, None].expand(8, 8)
EVERYWHERE = STRIPES.expand(1, 3, 8, 8).contiguous()


@pytest.fixture(scope="module")
def net() -> nn.Module:
    layers = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)
    return drawn(lambda: nn.Sequential(*layers)).double().requires_grad_(False)


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def captum():
    return pytest.importorskip("captum.attr", reason="captum, a development dependency, is not installed")


@pytest.mark.parametrize(("window", "stride", "fill"), [(4, 2, 0.0), (2, 2, 0.0), (3, 1, 0.25)])
def test_captum_occlusion(net, x, captum, window, stride, fill):
    shape, strides = (3, window, window), (3, stride, stride)
    wanted = captum.Occlusion(net).attribute(x, shape, strides, baselines=fill, target=TARGETS)
    found = mine(net, x, "occlusion", TARGETS, window=window, stride=stride, fill=torch.tensor(fill))
    assert np.allclose(found, wanted[:, 0], atol=1e-6)


def test_captum_feature_ablation(net, x, captum):
    wanted = captum.FeatureAblation(net).attribute(x, target=TARGETS, feature_mask=EVERYWHERE)
    assert np.allclose(mine(net, x, "feature_ablation", TARGETS, segments=STRIPES), wanted[:, 0], atol=1e-6)


def test_captum_shapley_values(net, x, captum):
    wanted = captum.ShapleyValues(net).attribute(x, target=TARGETS, feature_mask=EVERYWHERE)
    found = mine(net, x, "kernel_shap", TARGETS, segments=STRIPES, samples=14)  # all coalitions: exact
    assert np.allclose(found, wanted[:, 0], atol=1e-6)


@pytest.mark.parametrize(("theirs", "samples"), [("ShapleyValueSampling", 400), ("KernelShap", 600)])
def test_captums_samples_come_near_ours(net, x, captum, theirs, samples):
    said = {"feature_mask": EVERYWHERE, "n_samples": samples}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        one = [getattr(captum, theirs)(net).attribute(x[i : i + 1], target=TARGETS[i], **said) for i in range(2)]
    wanted = torch.cat(one)[:, 0].numpy()
    for method, many in (("kernel_shap", 14), ("shapley_sampling", 400)):
        found = mine(net, x, method, TARGETS, segments=STRIPES, samples=many)
        assert np.abs(found - wanted).max() < 0.1 * np.abs(wanted).max()


@pytest.mark.filterwarnings("ignore")  # its own
@pytest.mark.parametrize(("method", "theirs"), [("score_cam", "ScoreCAM"), ("ablation_cam", "AblationCAM")])
def test_pytorch_grad_cam_weighted_by_scores(method, theirs):
    # At the input's own size: theirs enlarges masks with aligned corners. Theirs divides by the score, ours by its
    # magnitude: the classes are those with the highest score, which is positive.
    library = importorskip("pytorch_grad_cam", "grad-cam")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    net, x = drawn(ConvNet), torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    targets = net(x).argmax(1)
    assert (net(x).amax(1) > 0).all()
    found = mine(net, x, method, targets, layer="features.2")
    with getattr(library, theirs)(model=net, target_layers=[net.features[2]]) as cam:
        wanted = cam(x, targets=[ClassifierOutputTarget(int(t)) for t in targets])
    for map_, other in zip(found, wanted, strict=True):
        assert np.abs(as_theirs(map_, 16) - other).max() < 1e-3
        assert other.any()
