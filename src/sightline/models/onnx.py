"""ONNX files: converted to torch where that gives the same scores, so that gradients work; else run as they are.

A file that cannot be converted runs in ONNX Runtime, forward only, and the model says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sightline.errors import ModelError
from sightline.models import zoo
from sightline.models.adapted import Adapted
from sightline.models.function import FunctionNet, check_names, for_batch
from sightline.models.model import Model, usual_preprocessing

__all__ = ["read_onnx"]

_OPSET = 17  # the newest whose every operation the converter knows
_ALIKE = 1e-3
_KINDS = {
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
}


def read_onnx(path: Path, fixed: Any = None) -> Model:
    """Load a ``.onnx`` file with one input of pictures, series or volumes; ``fixed`` gives others by name.

    Raises ModelError where onnx or onnxruntime is missing, and for a file that is damaged or of another kind.
    """
    session = _session(path)
    others = fixed or {}
    check_names(others, [i.name for i in session.get_inputs()], path.name)
    shape = _input_shape(session, path, others)
    last = len(shape) == 4 and shape[1] not in (1, 3, 4) and shape[3] in (1, 3, 4)
    channels, spatial = (shape[-1], shape[1:-1]) if last else (shape[1], shape[2:])
    size = tuple(int(s) for s in spatial) if all(isinstance(s, int) for s in spatial) else None
    batch = shape[0] if isinstance(shape[0], int) else None
    module, why = _module(path, session, shape, others)
    module = Adapted(module, _last_call, channels_last=True) if last else module
    count = channels if isinstance(channels, int) else 3
    return Model(
        module,
        path.stem,
        usual_preprocessing(count, size),
        weights=path.name,
        notes=() if why is None else (why,),
        assumed=True,
        input_size=size,
        dims=len(spatial),
        batch=batch,
        fixed=bool(others),
    )


def _session(path: Path) -> Any:
    if not path.is_file():
        raise ModelError(f"model file {path} does not exist; wanted an .onnx file.")
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise ModelError(
            "ONNX files need onnxruntime, which is not installed: pip install 'sightline[onnx]'."
        ) from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001  the runtime's exceptions have no common base
        text = " ".join(str(error).split())
        raise ModelError(f"{path} is no whole ONNX file ({text[:160]}).") from None


def _input_shape(session: Any, path: Path, others: Mapping[str, Any]) -> list[Any]:
    inputs = session.get_inputs()
    free = [i for i in inputs if i.name not in others]
    if len(free) != 1 or len(free[0].shape) not in (3, 4, 5):
        listed = ", ".join(f"{i.name} {i.shape}" for i in inputs)
        raise ModelError(
            f"{path} takes {listed}; wanted one input (N, C, H, W), (N, C, L) or (N, C, D, H, W): give the others, "
            f"load(..., fixed={{'{inputs[-1].name}': value}})."
        )
    return list(free[0].shape)


def _module(path: Path, session: Any, shape: list[Any], others: Mapping[str, Any]) -> tuple[nn.Module, str | None]:
    """Return the converted net, or the runtime's and why."""
    runtime = FunctionNet(_runner(session, others))
    try:
        converted = _with_names(_converted(path), session, others)
        different = _difference(converted, runtime, shape)
        reason = None if different < _ALIKE else f"the converted net's scores differ by {different:.2g}"
    except Exception as error:  # noqa: BLE001  the converter raises anything; the reason is said
        converted, reason = runtime, f"it cannot be converted to torch ({' '.join(str(error).split())[:100]})"
    module = converted if reason is None else runtime
    return module, None if reason is None else f"{reason}, so it runs in ONNX Runtime, without gradients and layers"


def _with_names(converted: nn.Module, session: Any, others: Mapping[str, Any]) -> nn.Module:
    """Give a converted net its other inputs in their places, and its outputs their names."""
    inputs, outputs = ([part.name for part in parts] for parts in (session.get_inputs(), session.get_outputs()))
    if len(inputs) == 1 and len(outputs) == 1:
        return converted

    def call(inner: Any, x: Tensor) -> Any:
        found = inner(*(for_batch(others[n], x) if n in others else x for n in inputs))
        return dict(zip(outputs, found, strict=True)) if len(outputs) > 1 else found

    return Adapted(converted, call)


def _last_call(inner: nn.Module, x: Tensor) -> Any:
    return inner(x.movedim(1, -1))


def _runner(session: Any, others: Mapping[str, Any]) -> Any:
    outputs = [output.name for output in session.get_outputs()]

    def run(x: Tensor) -> Any:
        if x.requires_grad:
            raise RuntimeError("ONNX Runtime cannot take what requires grad")
        given = {
            i.name: (for_batch(others[i.name], x) if i.name in others else x, i.type) for i in session.get_inputs()
        }
        feed = {n: np.asarray(v.cpu()).astype(_KINDS.get(kind, np.float32)) for n, (v, kind) in given.items()}
        found = [np.asarray(part, dtype=np.float32) for part in session.run(None, feed)]
        return dict(zip(outputs, found, strict=True)) if len(found) > 1 else found[0]

    return run


def _converted(path: Path) -> nn.Module:
    import onnx

    zoo.import_torchvision()  # the converter imports it too
    import onnx2torch

    graph = onnx.load(str(path))
    if any(o.version > _OPSET for o in graph.opset_import if o.domain in ("", "ai.onnx")):
        graph = onnx.version_converter.convert_version(graph, _OPSET)
    module: nn.Module = onnx2torch.convert(_simplified(graph))
    return module.float().eval()  # half precision gives no gradients worth looking at


def _simplified(graph: Any) -> Any:
    """Take out what the converter trips over: second names of weights, and a flag for sizes of 0, which no net has."""
    weights = {w.name for w in graph.graph.initializer}
    copies = {n.output[0]: n.input[0] for n in graph.graph.node if n.op_type == "Identity" and n.input[0] in weights}
    for node in graph.graph.node:
        node.input[:] = [copies.get(name, name) for name in node.input]
        attributes = [a for a in node.attribute if a.name != "allowzero"]
        del node.attribute[:]
        node.attribute.extend(attributes)
    kept = [n for n in graph.graph.node if n.output[0] not in copies]
    del graph.graph.node[:]
    graph.graph.node.extend(kept)
    return graph


def _difference(converted: nn.Module, runtime: nn.Module, shape: list[Any]) -> float:
    sizes = [s if isinstance(s, int) else d for s, d in zip(shape, (1, 3, 224, 224, 224), strict=False)]
    x = torch.randn(sizes, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours, theirs = (_flat(net(x)) for net in (converted, runtime))
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-6))


def _flat(found: Any) -> Tensor:
    parts = found.values() if isinstance(found, Mapping) else [found]
    return torch.cat([torch.as_tensor(part).float().flatten() for part in parts])
