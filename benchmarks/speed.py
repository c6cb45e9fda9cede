"""Ratios of time to the model's own inference pass, measured side by side in one run; peers on the same maps.

    python benchmarks/speed.py [--rounds 9] [--models resnet50,vgg16] [--threads 2]

Each round times every entry once, in turn, so that a busy machine slows all alike; the medians of the paired ratios
are printed. Weights are random: time does not depend on them.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

import sightline
from sightline.models import zoo
from sightline.models.load import load

TWELVE = (
    "gradient,input_x_gradient,guided_backprop,deconvnet,guided_grad_cam,grad_cam,grad_cam_plus_plus,xgrad_cam,"
    "layer_cam,hires_cam,elementwise_grad_cam,eigen_grad_cam"
)
FIVE_CAMS = "grad_cam,grad_cam_plus_plus,xgrad_cam,layer_cam,hires_cam"
LAYERS = {"resnet50": "layer4", "vgg16": "features.29"}


def entries(name: str, x: Tensor) -> dict[str, Callable[[], object]]:
    module = zoo.build(name)
    model = load(module)
    layer = module.get_submodule(LAYERS[name])
    run: dict[str, Callable[[], object]] = {
        "inference": lambda: infer(module, x),
        "sightline grad_cam": lambda: sightline.explain(model, x, "grad_cam", layer=LAYERS[name]),
        "sightline twelve methods": lambda: sightline.explain(model, x, TWELVE, layer=LAYERS[name]),
        "sightline top-5 x 5 CAMs": lambda: sightline.explain(model, x, FIVE_CAMS, "top5", layer=LAYERS[name]),
    }
    return run | peers(name, module, layer, x)


def infer(module: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return module(x)


def peers(name: str, module: nn.Module, layer: nn.Module, x: Tensor) -> dict[str, Callable[[], object]]:
    """The same maps by captum, torchcam and pytorch-grad-cam, each on a model of its own, for they change it."""
    from captum.attr import LayerGradCam
    from pytorch_grad_cam import GradCAM
    from torchcam.methods import GradCAM as TorchCam

    cam_model, torch_model = zoo.build(name), zoo.build(name)
    cam = GradCAM(model=cam_model, target_layers=[cam_model.get_submodule(LAYERS[name])])
    extractor = TorchCam(torch_model, target_layer=LAYERS[name])
    captum_cam = LayerGradCam(module, layer)
    top = int(infer(module, x).argmax())

    def torchcam() -> object:
        scores = torch_model(x)
        return extractor(int(scores.argmax()), scores)

    return {
        "captum grad_cam": lambda: captum_cam.attribute(x, target=top),
        "torchcam grad_cam": torchcam,
        "pytorch-grad-cam grad_cam": lambda: cam(input_tensor=x, targets=None),
        "captum + pytorch-grad-cam twelve": lambda: peer_twelve(module, cam_model, name, x, top),
    }


def peer_twelve(module: nn.Module, cam_model: nn.Module, name: str, x: Tensor, top: int) -> None:
    from captum.attr import Deconvolution, GuidedBackprop, GuidedGradCam, InputXGradient, Saliency
    from pytorch_grad_cam import (
        EigenGradCAM,
        GradCAM,
        GradCAMElementWise,
        GradCAMPlusPlus,
        HiResCAM,
        LayerCAM,
        XGradCAM,
    )

    leaf = x.clone().requires_grad_(True)
    for method in (Saliency, InputXGradient, GuidedBackprop, Deconvolution):
        method(module).attribute(leaf, target=top)
    GuidedGradCam(module, module.get_submodule(LAYERS[name])).attribute(leaf, target=top)
    for cam in (GradCAM, GradCAMPlusPlus, XGradCAM, LayerCAM, HiResCAM, GradCAMElementWise, EigenGradCAM):
        cam(model=cam_model, target_layers=[cam_model.get_submodule(LAYERS[name])])(input_tensor=x, targets=None)


def measure(run: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    for function in run.values():
        function()
    times: dict[str, list[float]] = {name: [] for name in run}
    for _ in range(rounds):
        for name, function in run.items():
            run["inference"]()  # so that each starts from the same caches and memory
            started = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - started)
    return times


def report(name: str, times: dict[str, list[float]]) -> None:
    base = times["inference"]
    print(f"\n{name}: inference {statistics.median(base) * 1e3:.0f} ms")
    print(f"{'':36}{'ratio':>8}{'lowest':>8}{'highest':>8}")
    for entry, taken in times.items():
        ratios = [t / b for t, b in zip(taken, base, strict=True)]
        print(f"{entry:36}{statistics.median(ratios):8.2f}{min(ratios):8.2f}{max(ratios):8.2f}")
    both = zip(times["captum + pytorch-grad-cam twelve"], times["sightline twelve methods"], strict=True)
    print(f"{'twelve methods: peers / sightline':36}{statistics.median(p / s for p, s in both):8.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--models", default="resnet50,vgg16")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warnings.simplefilter("ignore")
    print(f"torch {torch.__version__}, {arguments.threads} threads, {arguments.rounds} rounds, batch 1, 224 x 224")
    x = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    for name in arguments.models.split(","):
        report(name, measure(entries(name, x), arguments.rounds))


if __name__ == "__main__":
    main()
