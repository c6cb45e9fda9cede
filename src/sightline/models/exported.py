"""Programs of `torch.export` (``.pt2``), unflattened so that their layers can be read."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

from sightline.errors import ModelError, TrustError
from sightline.models.model import Model, usual_preprocessing

__all__ = ["read_exported"]


def read_exported(path: Path, *, trust: bool) -> Model:
    """Load a ``.pt2`` file; a program that was exported for one batch size is run on batches of that size.

    Raises TrustError without ``trust``, for loading can run code, and ModelError for a damaged file.
    """
    if not path.is_file():
        raise ModelError(f"model file {path} does not exist; wanted a .pt2 file.")
    if not trust:
        raise TrustError(
            f"{path} is an exported program, which can run code as it is loaded, so it is refused; say --trust "
            "(trust=True) if you know who made it."
        )
    program = _read(path)
    shape = _input_shape(program, path)
    batch, channels, *spatial = (int(s) if isinstance(s, int) else None for s in shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.export.unflatten(program)
    size = tuple(s for s in spatial if s is not None)
    fixed = size if len(size) == len(spatial) else None
    how = usual_preprocessing(channels or 3, fixed)
    return Model(
        module, path.stem, how, weights=path.name, assumed=True, input_size=fixed, dims=len(spatial), batch=batch
    )


def _read(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.load(path)
    except Exception as error:  # noqa: BLE001  a damaged archive raises anything
        text = " ".join(str(error).split())
        raise ModelError(f"{path} is no whole exported program ({text[:160]}).") from None


def _input_shape(program: Any, path: Path) -> tuple[Any, ...]:
    names = program.graph_signature.user_inputs
    shapes = [tuple(n.meta["val"].shape) for n in program.graph.nodes if n.op == "placeholder" and n.name in names]
    if len(shapes) != 1 or len(shapes[0]) not in (3, 4, 5):
        raise ModelError(f"{path} takes inputs of {shapes}; wanted one (N, C, H, W), (N, C, L) or (N, C, D, H, W).")
    return shapes[0]
