"""Weights files, read safely: safetensors and tensors-only checkpoints; anything that runs code is refused."""

from __future__ import annotations

import os
import pickle
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sightline.errors import ModelError, TrustError

__all__ = ["check_weights", "fit_weights", "read_module", "read_state"]

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "weights")
_OPTIONAL = "num_batches_tracked"


def read_state(path: str | os.PathLike[str], *, trust: bool = False) -> dict[str, Tensor]:
    """Read a state dict from a ``.safetensors`` file or a ``.pt``/``.pth`` checkpoint.

    Raises ModelError where the file is missing, damaged or holds no tensors, TrustError where it would run code.
    """
    data = _read(Path(path), trust)
    if isinstance(data, nn.Module):
        data = data.state_dict()
    while isinstance(data, Mapping) and not _is_state(data):
        inner = next((data[k] for k in _WRAPPERS if isinstance(data.get(k), Mapping)), None)
        if inner is None:
            break
        data = inner
    if not isinstance(data, Mapping) or not _is_state(data):
        raise ModelError(f"{path} holds no weights; wanted a mapping from names to tensors (a state dict).")
    return _without_prefix({str(k): v for k, v in data.items() if isinstance(v, Tensor)})


def _is_state(data: Mapping[Any, Any]) -> bool:
    return bool(data) and sum(isinstance(v, Tensor) for v in data.values()) > len(data) / 2


def _without_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in ("module.", "_orig_mod."):  # what DataParallel and torch.compile put before every name
        if state and all(k.startswith(prefix) for k in state):
            state = {k.removeprefix(prefix): v for k, v in state.items()}
    return state


def _read(file: Path, trust: bool) -> Any:
    if not file.exists():
        raise ModelError(f"weights file {file} does not exist; wanted a .safetensors, .pt or .pth file.")
    if file.is_dir():
        raise ModelError(f"{file} is a directory; wanted a .safetensors, .pt or .pth file in it.")
    if file.stat().st_size == 0:
        raise ModelError(f"weights file {file} is empty; it may not have been downloaded fully.")
    return _read_safetensors(file) if file.suffix == ".safetensors" else _read_checkpoint(file, trust)


def _read_safetensors(file: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{file} is not a whole safetensors file ({error}).") from None


def _is_torchscript(file: Path) -> bool:
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _is_pickle(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(1) == b"\x80"


def _refused(file: Path) -> TrustError:
    return TrustError(
        f"{file} would have to run code to be loaded, so it is refused; save its state dict as safetensors, "
        "or say --trust (trust=True) if you know who made it."
    )


def _read_checkpoint(file: Path, trust: bool) -> Any:
    if _is_torchscript(file):
        if not trust:
            raise _refused(file)
        return torch.jit.load(file, map_location="cpu")
    if not zipfile.is_zipfile(file) and not _is_pickle(file):
        raise ModelError(f"{file} is no weights file; wanted safetensors or a PyTorch checkpoint (.pt, .pth).")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", category=FutureWarning)
            return torch.load(file, map_location="cpu", weights_only=not trust)
    except pickle.UnpicklingError:
        if trust:
            raise ModelError(f"{file} is not a PyTorch checkpoint, or is damaged.") from None
        raise _refused(file) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError, ImportError) as error:
        reason = str(error).partition("\n")[0][:160]
        raise ModelError(f"{file} cannot be read as a PyTorch checkpoint ({reason}).") from None


def read_module(file: Path, trust: bool) -> nn.Module:
    """Read a whole pickled module, which runs code and so needs ``trust``.

    Raises TrustError without it, ModelError where the file holds something else, such as a state dict.
    """
    data = _read(file, trust)
    if isinstance(data, nn.Module):
        return data
    raise ModelError(
        f"{file} holds weights without an architecture; name both: --model NAME@{file.name} with a torchvision name, "
        f"or --model FACTORY.py:FUNCTION --weights {file.name}."
    )


def fit_weights(module: nn.Module, state: Mapping[str, Tensor], name: str, file: str) -> None:
    """Load a state dict into a module of our own making.

    Raises ModelError where keys or shapes differ, with the first of them.
    """
    wanted = module.state_dict()
    check_weights(wanted, state, name, file)
    given = OrderedDict(state)
    # Some nets, as MNASNet, take weights without a version for those of an older layout, whose shapes these have not.
    vars(given)["_metadata"] = vars(wanted).get("_metadata", {})
    module.load_state_dict(given, strict=False)


def check_weights(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor], name: str, file: str) -> None:
    """Raise ModelError where names or shapes of weights differ from those that a network wants."""
    missing = [k for k in wanted if k not in state and not k.endswith(_OPTIONAL)]
    extra = [k for k in state if k not in wanted]
    other = [k for k in wanted if k in state and wanted[k].shape != state[k].shape]
    if missing or extra or other:
        shapes = [f"{k} came as {tuple(state[k].shape)}, wanted {tuple(wanted[k].shape)}" for k in other]
        parts = (("missing", missing), ("unexpected", extra), ("of another shape", shapes))
        raise ModelError(
            f"the weights in {file} do not fit {name}: "
            + "; ".join(f"{what}: {_first(keys)}" for what, keys in parts if keys)
            + ". Name the architecture that they were saved from."
        )


def _first(keys: list[str], most: int = 3) -> str:
    more = f" and {len(keys) - most} more" if len(keys) > most else ""
    return ", ".join(keys[:most]) + more
