"""The networks: torchvision's names, one of every timm and keras.applications family, Hugging Face configs."""

from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sightline.models.keras import import_keras
from sightline.models.zoo import import_torchvision

from .subjects import Subject, built, from_keras, from_torch, pictures


@dataclass(frozen=True)
class Case:
    """A network that can be built: where it comes from, its family and name."""

    source: str
    family: str
    name: str
    build: Callable[[], Subject]
    giant: bool = False


def cases(source: str) -> list[Case]:
    return list(_SOURCES[source]())


# --- torchvision ----------------------------------------------------------------------------------------------------

_TV_SIZES = {"inception_v3": 128, "maxvit_t": 224, "vit_h_14": 112, "vgg": 64, "alexnet": 128}
_TV_GIANTS = ("vit_h_14", "regnet_y_128gf", "regnet_y_32gf", "vit_l_16", "vit_l_32", "convnext_large")


def _torchvision() -> Iterator[Case]:
    models = import_torchvision().models
    for name in models.list_models(module=models):
        family = models.get_model_builder(name).__module__.rpartition(".")[2]
        yield Case("torchvision", family, name, functools.partial(_build_tv, name), name in _TV_GIANTS)


def _build_tv(name: str) -> Subject:
    size = next((s for start, s in _TV_SIZES.items() if name.startswith(start)), 96)
    options: dict[str, Any] = {"image_size": size} if name.startswith("vit_") else {}
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = False
    net = built(lambda: import_torchvision().models.get_model(name, weights=None, **options))
    return from_torch(net, size, prefix=1 if name.startswith("vit_") else None)


# --- timm -----------------------------------------------------------------------------------------------------------

# One of every family (a module of timm.models), the smallest or nearly so.
_TIMM = (Path(__file__).parent / "timm.txt").read_text(encoding="utf-8").split()
_TIMM_GIANTS = ("deepseek_vit_412m", "gemma4_vit_167m")
_TIMM_SIZE = 128


def _timm() -> Iterator[Case]:
    import_torchvision()  # which timm imports, and fails where its compiled operators do not fit
    timm = importlib.import_module("timm")
    families = {n: f for f in timm.models.list_modules() for n in timm.models.list_models(module=f)}
    missing = {f: n for n, f in families.items() if f not in {families.get(m) for m in _TIMM}}
    for name in [*_TIMM, *missing.values()]:
        if name in families:
            yield Case("timm", families[name], name, functools.partial(_build_timm, name), name in _TIMM_GIANTS)


def _build_timm(name: str) -> Subject:
    create = importlib.import_module("timm").create_model
    for options in ({"img_size": _TIMM_SIZE}, {}):
        try:
            net = built(lambda options=options: create(name, pretrained=False, **options))
        except (TypeError, AssertionError, ValueError, RuntimeError):  # a size that it does not know, or cannot have
            continue
        size = _smallest(net, [_TIMM_SIZE, net.pretrained_cfg["input_size"][-1]])
        if size is not None:
            return from_torch(net, size, prefix=getattr(net, "num_prefix_tokens", None))
    raise RuntimeError(f"{name} could not be built")


def _smallest(net: nn.Module, sizes: list[int]) -> int | None:
    for size in sizes:
        try:
            with torch.no_grad():
                net.eval()(pictures(1, size))
        except (RuntimeError, AssertionError, ValueError, IndexError):
            continue
        return size
    return None


# --- Keras ----------------------------------------------------------------------------------------------------------

# name: (family, input size); the smallest of every family.
_KERAS = {
    "ConvNeXtTiny": ("convnext", 96),
    "DenseNet121": ("densenet", 96),
    "EfficientNetB0": ("efficientnet", 96),
    "EfficientNetV2B0": ("efficientnet_v2", 96),
    "InceptionResNetV2": ("inception_resnet_v2", 128),
    "InceptionV3": ("inception_v3", 128),
    "MobileNet": ("mobilenet", 96),
    "MobileNetV2": ("mobilenet_v2", 96),
    "MobileNetV3Small": ("mobilenet_v3", 96),
    "MobileNetV3Large": ("mobilenet_v3", 96),
    "NASNetMobile": ("nasnet", 96),
    "ResNet50": ("resnet", 96),
    "ResNet50V2": ("resnet_v2", 96),
    "VGG16": ("vgg16", 64),
    "VGG19": ("vgg19", 64),
    "Xception": ("xception", 96),
}


def _keras() -> Iterator[Case]:
    import_keras()
    for name, (family, size) in _KERAS.items():
        yield Case("keras", family, name, functools.partial(_build_keras, name, size))


def _build_keras(name: str, size: int) -> Subject:
    make = getattr(import_keras().applications, name)
    net = built(lambda: make(weights=None, input_shape=(size, size, 3)))
    return from_keras(net, size, gates=name.startswith("MobileNetV3"))


# --- Hugging Face ---------------------------------------------------------------------------------------------------

_VIT: dict[str, Any] = {
    "hidden_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 192,
    "image_size": 64,
    "patch_size": 16,
}
_TOWER = {"vision_config": _VIT, "text_config": {"num_hidden_layers": 1, "hidden_size": 32, "vocab_size": 64}}
_STAGES: dict[str, Any] = {"depths": [1, 1, 1, 1], "image_size": 96}
_SMALL: dict[str, Any] = {"hidden_sizes": [32, 48, 64, 96], **_STAGES}
_SWIN: dict[str, Any] = {"embed_dim": 48, "window_size": 4, "image_size": 128, "depths": [1, 1, 2, 1]}
_HF: dict[str, dict[str, Any]] = {
    "beit": _VIT,
    "bit": {"depths": [1, 1, 1, 1]},
    "clip": _TOWER,
    "convnext": _SMALL,
    "convnextv2": _SMALL,
    "cvt": {},
    "data2vec-vision": _VIT,
    "deit": _VIT,
    "dinat": {"depths": [1, 1, 1, 1], "image_size": 128},
    "dinov2": _VIT,
    "dinov2_with_registers": _VIT,
    "donut-swin": _SWIN,
    "efficientnet": {"width_coefficient": 1.0, "depth_coefficient": 1.0, "hidden_dim": 1280, "image_size": 96},
    "focalnet": {"embed_dim": 48, **_STAGES},
    "hgnet_v2": {},
    "hiera": {"depths": [1, 1, 2, 1], "embed_dim": 48, "image_size": [128, 128]},
    "ijepa": _VIT,
    "imagegpt": {},
    "levit": {"image_size": 128, "hidden_sizes": [64, 96, 128], "depths": [1, 1, 1]},
    "metaclip_2": _TOWER,
    "mobilenet_v1": {"image_size": 96},
    "mobilenet_v2": {"image_size": 96},
    "mobilevit": {"image_size": 128},
    "mobilevitv2": {"image_size": 128},
    "perceiver": {},
    "poolformer": {"depths": [1, 1, 1, 1], "hidden_sizes": [32, 48, 64, 96]},
    "pp_lcnet": {},
    "pvt": {**_SMALL, "hidden_sizes": [32, 64, 160, 256]},
    "pvt_v2": {"image_size": [96, 96], "depths": [1, 1, 1, 1]},
    "regnet": {"depths": [1, 1, 2, 1]},
    "resnet": {"hidden_sizes": [64, 96, 128, 160], "depths": [1, 1, 2, 1]},
    "segformer": {"depths": [1, 1, 1, 1]},
    "shieldgemma2": {},
    "siglip": _TOWER,
    "siglip2": _TOWER,
    "swiftformer": {"depths": [1, 1, 2, 1], "image_size": 96},
    "swin": _SWIN,
    "swinv2": _SWIN,
    "textnet": {"image_size": [96, 96]},
    "vit": _VIT,
    "vit_msn": _VIT,
}
_NO_PICTURES = ("imagegpt", "perceiver", "shieldgemma2", "siglip2")  # colour indices, several inputs, or a chat model


def _hf() -> Iterator[Case]:
    import_torchvision()
    logging = importlib.import_module("transformers").utils.logging
    logging.set_verbosity_error()
    auto = importlib.import_module("transformers.models.auto.modeling_auto")
    for family, made in auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES.items():
        for kind in (made,) if isinstance(made, str) else made:
            if family in _HF and family not in _NO_PICTURES:
                name = family + ("-teacher" if "Teacher" in kind else "")
                yield Case("hf", family, name, functools.partial(_build_hf, family, kind))


def _build_hf(name: str, kind: str) -> Subject:
    transformers = importlib.import_module("transformers")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = transformers.CONFIG_MAPPING[name](num_labels=10, **_HF[name])
        net = built(lambda: getattr(transformers, kind)(config)).eval()
    side = _HF[name].get("image_size", 64 if "vision_config" in _HF[name] else 96)
    return from_torch(net, side[0] if isinstance(side, list) else side)


_SOURCES: dict[str, Callable[[], Iterator[Case]]] = {
    "torchvision": _torchvision,
    "timm": _timm,
    "keras": _keras,
    "hf": _hf,
}
SOURCES = tuple(_SOURCES)
