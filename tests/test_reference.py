"""Against strangers: captum, pytorch-grad-cam and torchcam, where they are right, after the same normalisation."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sightline
from nets import ConvNet, calibrated, drawn
from sightline.errors import RefusedError
from sightline.models.zoo import import_torchvision

pytestmark = pytest.mark.reference

import_torchvision()  # where its compiled operators do not fit, the others could not import it either
LAYERS = {"resnet18": "layer4", "vgg11": "0.18"}


def vgg() -> nn.Module:
    """VGG-11 with a head that is not larger than all the rest: average pooling is gone, and two linear layers stay."""
    from torchvision.models.vgg import cfgs, make_layers

    trunk = make_layers(cfgs["A"])
    for part in trunk:
        if isinstance(part, nn.Conv2d):  # as torchvision does, so that the activations do not fade
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(trunk, nn.Flatten(), nn.Linear(512, 32), nn.ReLU(), nn.Linear(32, 10))


@pytest.fixture(scope="module", params=LAYERS)
def case(request) -> tuple[nn.Module, Tensor, Tensor, str]:
    """A net whose every ReLU is a module (captum sees no others), inputs, a class for each, and a layer."""
    if request.param == "resnet18":
        net, x = calibrated("resnet18", 48)
    else:
        net, x = drawn(vgg), torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for part in net.modules():
        if isinstance(part, nn.ReLU):  # in place, they would overwrite what the others' hooks hold
            part.inplace = False
    (*_, last) = (m for m in net.modules() if isinstance(m, nn.Linear))
    last.weight.data *= 1e4  # against the others' small constants in denominators
    return net.double(), x.double().requires_grad_(), torch.tensor([3, 7]), LAYERS[request.param]


@pytest.fixture(scope="module")
def captum() -> Any:
    return pytest.importorskip("captum.attr", reason="captum, a development dependency, is not installed")


def importorskip(name: str, package: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of their own imports
        return pytest.importorskip(name, reason=f"{package}, a development dependency, is not installed")


def mine(net: nn.Module, x: Tensor, method: str, targets: Tensor, **how: Any) -> np.ndarray:
    return np.stack([e.attribution for e in sightline.explain(net, x, method, targets, **how)])


def assert_close(found: np.ndarray, wanted: Any, rtol: float = 1e-4, atol: float = 1e-5) -> None:
    wanted = np.asarray(wanted.detach() if isinstance(wanted, Tensor) else wanted)
    assert wanted.any()
    np.testing.assert_allclose(found, wanted, rtol=rtol, atol=atol * np.abs(wanted).max())


# --- captum ---------------------------------------------------------------------------------------------------------


def test_captum_saliency_and_input_x_gradient(case, captum):
    net, x, targets, _ = case
    assert_close(mine(net, x, "gradient", targets), captum.Saliency(net).attribute(x, targets, abs=False))
    assert_close(mine(net, x, "input_x_gradient", targets), captum.InputXGradient(net).attribute(x, targets))


@pytest.mark.parametrize(
    ("rule", "theirs"),
    [("gauss-legendre", "gausslegendre"), ("middle", "riemann_middle"), ("right", "riemann_right")],
)
def test_captum_integrated_gradients(case, captum, rule, theirs):
    net, x, targets, _ = case
    baseline = torch.full_like(x, 0.1).detach()
    # Four steps: captum's steps are float32, and only such as 3/8 are exact there. A ReLU may lie between.
    wanted = captum.IntegratedGradients(net).attribute(x, baseline, targets, n_steps=4, method=theirs)
    found = mine(net, x, "integrated_gradients", targets, baseline=baseline[0], rule=rule, steps=4)
    assert_close(found, wanted)


@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU activations")
@pytest.mark.parametrize(("method", "theirs"), [("guided_backprop", "GuidedBackprop"), ("deconvnet", "Deconvolution")])
def test_captum_rules_on_relu_modules(case, captum, method, theirs):
    net, x, targets, _ = case
    wanted = getattr(captum, theirs)(net).attribute(x, target=targets).detach().float()
    assert wanted.any()
    assert np.array_equal(mine(net, x, method, targets), wanted.numpy())


@pytest.mark.parametrize("relu", [False, True])
def test_captum_layer_grad_cam(case, captum, relu):
    net, x, targets, layer = case
    cam = captum.LayerGradCam(net, net.get_submodule(layer))
    wanted = cam.attribute(x, target=targets, relu_attributions=relu)[:, 0]
    assert_close(mine(net, x, "grad_cam", targets, layer=layer, relu=relu), wanted)


def test_captum_guided_grad_cam(case, captum):
    net, x, targets, layer = case
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = captum.GuidedGradCam(net, net.get_submodule(layer))
        wanted = theirs.attribute(x, target=targets, interpolate_mode="bilinear")
    assert_close(mine(net, x, "guided_grad_cam", targets, layer=layer), wanted)


def test_captum_smooth_and_var_grad_without_noise(captum):
    # Their noise is drawn otherwise; what is left of the methods without it must be the same.
    net, x = drawn(ConvNet), torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([1, 2])
    for method, kind in (("smooth_grad", "smoothgrad"), ("square_grad", "smoothgrad_sq")):
        tunnel = captum.NoiseTunnel(captum.Saliency(net))
        wanted = tunnel.attribute(x, target=targets, nt_type=kind, nt_samples=3, stdevs=0.0, abs=False)
        assert_close(mine(net, x, method, targets, samples=3, noise=0.0), wanted)


# --- pytorch-grad-cam -----------------------------------------------------------------------------------------------

GRAD_CAM = {
    "grad_cam": ("GradCAM", {}),
    "xgrad_cam": ("XGradCAM", {}),
    "layer_cam": ("LayerCAM", {}),
    "hires_cam": ("HiResCAM", {}),
    "elementwise_grad_cam": ("GradCAMElementWise", {}),
    "eigen_cam": ("EigenCAM", {"centre": True}),
    "eigen_grad_cam": ("EigenGradCAM", {"centre": True}),
    "grad_cam_plus_plus": ("GradCAMPlusPlus", {}),
}


def as_theirs(cam: np.ndarray, size: int) -> np.ndarray:
    """Scale a map to [0, 1] before and after it is resized, as pytorch-grad-cam does."""
    import cv2

    def scaled(values: np.ndarray) -> np.ndarray:
        values = values - values.min()
        return values / (1e-7 + values.max())

    return scaled(cv2.resize(scaled(np.maximum(cam, 0)).astype(np.float32), (size, size)))


@pytest.mark.filterwarnings("ignore")  # its own
@pytest.mark.parametrize("method", GRAD_CAM)
def test_pytorch_grad_cam(case, method):
    library = importorskip("pytorch_grad_cam", "grad-cam")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    net, x, targets, layer = case
    name, how = GRAD_CAM[method]
    with getattr(library, name)(model=net, target_layers=[net.get_submodule(layer)]) as cam:
        wanted = cam(x, targets=[ClassifierOutputTarget(int(t)) for t in targets])
    # Their Eigen-CAMs leave the sign of the component to chance: either side is accepted of theirs, one is ours.
    eigen = method.startswith("eigen")
    found = mine(net, x, method, targets, layer=layer, **how, **({"relu": False, "sign": "none"} if eigen else {}))
    size = x.shape[-1]
    for map_, theirs in zip(found, wanted, strict=True):
        sides = [as_theirs(side, size) for side in ((map_, -map_) if eigen else (map_,))]
        assert min(np.abs(side - theirs).max() for side in sides) < 1e-3
        assert theirs.any()


# --- torchcam -------------------------------------------------------------------------------------------------------

TORCHCAM = {
    "grad_cam": "GradCAM",
    "layer_cam": "LayerCAM",
    "xgrad_cam": "XGradCAM",
    "cam": "CAM",
}  # its Grad-CAM++ sums A g³ over positions where the paper multiplies the sum of A by g³


@pytest.mark.filterwarnings("ignore")  # its own
@pytest.mark.parametrize("method", TORCHCAM)
def test_torchcam(case, method):
    library = importorskip("torchcam.methods", "torchcam")
    net, x, targets, layer = case
    if method == "cam" and layer != "layer4":
        with pytest.raises(RefusedError, match="one linear layer"):  # where torchcam gives a map all the same
            mine(net, x, method, targets, layer=layer)
        return
    extra = ("fc",) if method == "cam" else ()
    with getattr(library, TORCHCAM[method])(net, layer, *extra) as extractor:
        scores = net(x.requires_grad_())
        arguments = () if method == "cam" else (scores,)
        (wanted,) = extractor(targets.tolist(), *arguments, normalized=False)
        wanted = wanted.clone()
    found = mine(net, x, method, targets, layer=layer)

    def unit(maps: np.ndarray) -> np.ndarray:
        return maps / np.abs(maps).max((1, 2), keepdims=True)

    assert np.abs(unit(found) - unit(np.maximum(wanted.detach().numpy(), 0))).max() < 1e-3
