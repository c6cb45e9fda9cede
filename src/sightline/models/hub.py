"""Hugging Face and timm classifiers, with the preprocessing and class names that come with them."""

from __future__ import annotations

import json
import math
import os
import re
import socket
import urllib.parse
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sightline.errors import ModelError, SightlineError, TrustError, suggest
from sightline.geometry import Preprocessing
from sightline.labels import Labels
from sightline.models import files, zoo
from sightline.models.model import Model

__all__ = [
    "TIMM",
    "config_of",
    "from_config",
    "from_hub",
    "is_hub_name",
    "known_labels",
    "known_preprocessing",
    "timm_model",
    "timm_names",
]

TIMM = "timm/"
_SAMPLING = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
_PATIENCE = 5.0


def is_hub_name(name: str) -> bool:
    """Say whether a name is a folder with a Hugging Face model, or looks like a name on the hub (owner/name)."""
    if Path(name).is_dir():
        return (Path(name) / "config.json").is_file()
    parts = name.split("/")
    return len(parts) == 2 and all(re.fullmatch(r"[A-Za-z0-9][\w.-]*", p) for p in parts) and not Path(name).exists()


def from_hub(name: str, weights: Any, seed: int, *, trust: bool = False) -> Model:
    """Load a Hugging Face image classifier from a folder or the hub; ``weights`` None gives random ones.

    Raises ModelError where transformers is missing, the network is, or the model is no image classifier, TrustError
    where it would run code of its own.
    """
    transformers = _import("transformers")
    source = {"local_files_only": _is_at_hand(name), "trust_remote_code": trust}
    untrained = zoo.wants_random(weights)
    with _quiet(transformers):
        config = _asked(lambda: transformers.AutoConfig.from_pretrained(name, **source), name)
        module = (
            _untrained(
                lambda: transformers.AutoModelForImageClassification.from_config(config, trust_remote_code=trust),
                name,
                seed,
            )
            if untrained
            else _asked(lambda: _pretrained(transformers, name, source), name)
        )
    processor = _processor(name, source["local_files_only"])
    how = preprocessing_of(processor, config) if processor is not None else _usual(config)
    said = "random" if untrained else "as in the folder" if Path(name).is_dir() else "from the hub"
    return Model(
        module.eval(),
        Path(name).name if Path(name).is_dir() else name,
        how,
        known_labels(module),
        weights=said,
        notes=(zoo.RANDOM,) if untrained else (),
        assumed=processor is None,
    )


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Keep the library's own reports and bars off the screen, for what matters in them is said in our errors."""
    log = transformers.utils.logging
    before, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity(100)
    log.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.set_verbosity(before)
        if bars:
            log.enable_progress_bar()


def _pretrained(transformers: Any, name: str, source: Mapping[str, Any]) -> nn.Module:
    module, about = transformers.AutoModelForImageClassification.from_pretrained(
        name, output_loading_info=True, **source
    )
    missing = sorted(about["missing_keys"])
    if missing:
        headless = all(k.startswith(("classifier", "head", "fc")) for k in missing)
        way = (
            "it is not an image classifier yet; fine-tune it" if headless else "its files are not whole; get them again"
        )
        raise ModelError(
            f"{name} has no weights for {', '.join(missing[:3])}, which would be random: {way}, or give --weights none."
        )
    return module  # type: ignore[no-any-return]


def _import(package: str) -> Any:
    import importlib

    zoo_is_there = importlib.util.find_spec("torchvision") is not None
    if zoo_is_there:
        zoo.import_torchvision()  # these packages import it too, and fail where its compiled ops do not fit
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise ModelError(f"this model needs {package}, which is not installed: pip install 'sightline[hub]'.") from None


def _is_at_hand(name: str) -> bool:
    """Say whether nothing has to be downloaded; raise ModelError at once where it has to and cannot be."""
    if Path(name).is_dir():
        return True
    if _is_cached(name, "config.json"):
        return True
    _refuse_offline(f"there is no folder and no torchvision model '{name}', and")
    return False


def _is_cached(name: str, file: str) -> bool:
    return isinstance(_import("huggingface_hub").try_to_load_from_cache(name, file), str)


def _refuse_offline(said: str) -> None:
    host = urllib.parse.urlsplit(os.environ.get("HF_ENDPOINT", "https://huggingface.co")).hostname or "huggingface.co"
    try:
        socket.create_connection((host, 443), timeout=_PATIENCE).close()
    except OSError as error:
        raise ModelError(
            f"{said} the hub ({host}) cannot be reached ({error}); give the folder or file of a saved model, or "
            "--weights none for random weights."
        ) from None


def _asked(get: Callable[[], Any], name: str) -> Any:
    try:
        return get()
    except SightlineError:
        raise
    except Exception as error:  # noqa: BLE001  damaged files raise anything there
        text = " ".join(str(error).split())
        if "trust_remote_code" in text:
            raise TrustError(
                f"{name} comes with code of its own that would run, so it is refused; say --trust (trust=True) if you "
                "know who made it."
            ) from None
        if "ignore_mismatched_sizes" in text or "size mismatch" in text:
            raise ModelError(
                f"{name}: its weights do not fit its config.json ({_mismatch(text)}); get both again."
            ) from None
        if "weights_only" in text:
            raise TrustError(
                f"{name} would have to run code to be loaded, so it is refused; save its weights as safetensors."
            ) from None
        raise ModelError(f"{name} cannot be loaded as an image classifier ({text[:200]}).") from None


def config_of(module: nn.Module, classes: tuple[str, ...]) -> dict[str, Any] | None:
    """Return the settings of a transformers classifier with these class names, or None for another module."""
    config: Any = getattr(module, "config", None)
    if not type(module).__module__.startswith("transformers.models.") or not hasattr(config, "to_dict"):
        return None
    found: dict[str, Any] = json.loads(json.dumps(config.to_dict()))
    named = {str(i): name for i, name in enumerate(classes)}
    return {**found, "id2label": named, "label2id": {name: i for i, name in enumerate(classes)}}


def from_config(settings: Mapping[str, Any], state: Mapping[str, Tensor], where: str) -> nn.Module:
    """Make the classifier of a config's settings, untrained; no code but the library's own is run.

    Raises ModelError where the library does not know it, or where its weights would not have the shapes of ``state``.
    """
    transformers = _import("transformers")
    with _quiet(transformers):
        made: nn.Module = _asked(lambda: _of_config(transformers, settings, state, where), where)
        return made


def _of_config(transformers: Any, settings: Mapping[str, Any], state: Mapping[str, Tensor], where: str) -> Any:
    plain = {k: v for k, v in settings.items() if k not in ("auto_map", "torch_dtype", "dtype")}
    kind = plain.get("model_type")
    if not isinstance(kind, str) or kind not in transformers.CONFIG_MAPPING:
        raise ModelError(f"{where}: transformers knows no model type {kind!r}; update it, or train again.")
    config = transformers.CONFIG_MAPPING[kind].from_dict(plain)
    make = transformers.AutoModelForImageClassification.from_config
    with torch.device("meta"):  # first without memory, for the settings may come from anybody
        files.check_weights(make(config, trust_remote_code=False).state_dict(), state, where, where)
    return make(config, trust_remote_code=False)


def _mismatch(text: str) -> str:
    found = re.search(r"size mismatch for \S+.*?(?=\. |$)", text)
    return (found[0] if found else text)[:200]


def _untrained(make: Callable[[], Any], name: str, seed: int) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _asked(make, name)


def _processor(name: str, local: bool) -> dict[str, Any] | None:
    """Return the settings of the processor that came with the model, or None."""
    if Path(name).is_dir():
        file = Path(name) / "preprocessor_config.json"
        return _read_settings(file) if file.is_file() else None
    hub = _import("huggingface_hub")
    errors = hub.errors
    try:
        found = hub.hf_hub_download(name, "preprocessor_config.json", local_files_only=local)
    except errors.EntryNotFoundError as error:
        if isinstance(error, errors.LocalEntryNotFoundError) and not local:  # the network broke off
            raise ModelError(f"{name}: its processor's settings could not be had ({error}); try again.") from None
        return None  # it has none, or none was fetched: what is assumed instead is said
    return _read_settings(Path(found))


def _read_settings(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise ModelError(f"{file} is no JSON object with a processor's settings; get it again.") from None


def preprocessing_of(settings: Mapping[str, Any], config: Any = None) -> Preprocessing:
    """Read a processor's settings.

    >>> preprocessing_of({"size": {"shortest_edge": 256}, "crop_size": 224, "do_center_crop": True}).describe()[:40]
    'short side to 256, centre crop 224x224 ('
    """
    resize, crop = _sizes(settings, config)
    normal = settings.get("do_normalize", True)
    factor = settings.get("rescale_factor", 1 / 255) if settings.get("do_rescale", True) else 1.0
    usual = Preprocessing()
    return Preprocessing(
        resize=resize,
        crop=crop,
        mean=tuple(settings.get("image_mean") or usual.mean) if normal else (0.0,) * 3,
        std=tuple(settings.get("image_std") or usual.std) if normal else (1.0,) * 3,
        interpolation=_SAMPLING.get(settings.get("resample", 2), "bilinear"),  # type: ignore[arg-type]
        scale=1 / factor,
        order="bgr" if settings.get("do_flip_channel_order") else "rgb",
    )


def _sizes(settings: Mapping[str, Any], config: Any) -> tuple[Any, Any]:
    size = settings.get("size", getattr(config, "image_size", 224))
    centred = settings.get("do_center_crop", False)
    crop = _side(settings.get("crop_size", 224)) if centred else None
    if not settings.get("do_resize", True):
        return None, crop
    edge = size.get("shortest_edge") if isinstance(size, Mapping) else size if centred else None
    if edge is None:
        return _side(size), crop
    share = settings.get("crop_pct")
    if share is None:
        return edge, crop
    return (int(edge / share), edge) if edge < 384 else ((edge, edge), None)  # as ConvNeXt's processor does


def _side(size: Any) -> Any:
    if isinstance(size, Mapping):
        return (size["height"], size["width"]) if "height" in size else size.get("shortest_edge", 224)
    return (size, size) if isinstance(size, int) else tuple(size)


def _usual(config: Any) -> Preprocessing:
    side = getattr(config, "image_size", 224)
    return Preprocessing(resize=_side(side if not isinstance(side, list) else tuple(side)), crop=None)


def known_labels(module: Any) -> Labels:
    """Return the class names that a module carries in its config, where they are more than numbers."""
    names = getattr(getattr(module, "config", None), "id2label", None)
    if not isinstance(names, Mapping) or not names:
        return Labels()
    listed = tuple(str(names[i]) for i in sorted(names, key=int))
    return Labels() if all(n == f"LABEL_{i}" for i, n in enumerate(listed)) else Labels(listed)


def known_preprocessing(module: Any) -> Preprocessing | None:
    """Return the preprocessing that a timm module carries with it, or None."""
    return timm_preprocessing(module) if isinstance(getattr(module, "pretrained_cfg", None), Mapping) else None


def timm_names() -> list[str]:
    """List timm's architectures."""
    return list(_import("timm").list_models())


def timm_model(name: str, weights: Any, seed: int, *, trust: bool = False) -> Model:
    """Build a timm model with published weights ("default"), a weights file, or random ones (None).

    Raises ModelError for an unknown name and for weights that cannot be had or do not fit.
    """
    timm = _import("timm")
    if not timm.is_model(name.partition(".")[0]):
        raise ModelError(f"timm has no model '{name}'.{suggest(name, timm_names())} See: sightline models.")
    untrained = zoo.wants_random(weights)
    if weights == "default":
        module = _timm_pretrained(timm, name)
        said = str(module.pretrained_cfg.get("tag") or "pretrained")
    elif untrained:
        module, said = _untrained(lambda: timm.create_model(name, pretrained=False), name, seed), "random"
    else:
        module, said = _timm_from_file(timm, name, Path(weights), trust), Path(weights).name
    how, labels = timm_preprocessing(module), _timm_labels(module)
    return Model(module.eval(), TIMM + name, how, labels, weights=said, notes=(zoo.RANDOM,) if untrained else ())


def _timm_pretrained(timm: Any, name: str) -> Any:
    config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    where = getattr(config, "hf_hub_id", None)
    if where and not any(_is_cached(where, file) for file in ("model.safetensors", "pytorch_model.bin")):
        _refuse_offline(f"the weights of {TIMM}{name} are not on this machine, and")
    try:
        with zoo.patience():
            return timm.create_model(name, pretrained=True)
    except (OSError, RuntimeError, ValueError) as error:
        text = " ".join(str(error).split())
        raise ModelError(
            f"the weights of {TIMM}{name} could not be had ({text[:160]}); give a file with --weights FILE (weights= "
            "in Python), or --weights none for random ones."
        ) from None


def _timm_from_file(timm: Any, name: str, file: Path, trust: bool) -> nn.Module:
    state = files.read_state(file, trust=trust)
    usual = timm.create_model(name, pretrained=False)
    named = usual.pretrained_cfg.get("classifier")
    head = named[0] if isinstance(named, (tuple, list)) and named else named  # distilled nets have two
    weight = state.get(f"{head}.weight") if isinstance(head, str) else None
    classes = {} if weight is None or len(weight) == usual.num_classes else {"num_classes": len(weight)}
    module: nn.Module = timm.create_model(name, pretrained=False, **classes) if classes else usual
    files.fit_weights(module, state, f"{TIMM}{name}", str(file))
    return module


def timm_preprocessing(module: Any) -> Preprocessing:
    """Read timm's data config: the short side becomes size / crop_pct, of which the centre is cut."""
    timm_data = _import("timm").data
    config = timm_data.resolve_data_config({}, model=module)
    _, height, width = config["input_size"]
    share = config["crop_pct"]
    inner = Preprocessing(
        resize=math.floor(min(height, width) / share),
        crop=(height, width),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation=config["interpolation"],
    )
    squashed = config.get("crop_mode") == "squash"
    sides = (math.floor(height / share), math.floor(width / share))
    return replace(inner, resize=sides) if squashed or height != width else inner


def _timm_labels(module: Any) -> Labels:
    timm_data = _import("timm").data
    if module.num_classes == 1000:
        return zoo.metadata("resnet50")[1]
    subset = timm_data.infer_imagenet_subset(module)
    if subset is None:
        return Labels()
    names = timm_data.ImageNetInfo(subset)
    return Labels(tuple(names.index_to_description(i) for i in range(module.num_classes)))
