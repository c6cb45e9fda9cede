"""The process that tries a model file before the app loads it: what is wrong with the file ends here.

What is asked is its one argument, a JSON object, and so is the answer on its standard output.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Asked", "main"]

_PR_SET_PDEATHSIG = 1
_TO_SAY_SO = 5  # seconds from the signal that ends the process to the one that kills it


@dataclass(frozen=True)
class Asked:
    """A model file, the architecture of which it holds the weights ("" where it holds its own), and the limits."""

    file: str
    architecture: str
    labels: str | None
    gigabytes: float
    seconds: int


def main() -> None:
    """Answer with what the model is, or with the kind of error and its sentence."""
    answers = os.fdopen(os.dup(1), "w")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (1, 2):  # whatever a library prints is no answer
        os.dup2(nowhere, stream)
    asked = Asked(**json.loads(sys.argv[1]))
    _end_with_the_app()
    json.dump(_answer(asked), answers)
    answers.close()
    os._exit(0)  # what a hostile file left behind, such as threads, is not waited for


def _end_with_the_app() -> None:
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _answer(asked: Asked) -> dict[str, Any]:
    from sightline.errors import SightlineError

    try:
        _import_what_is_needed(Path(asked.file))
        _limit(asked.gigabytes, asked.seconds)
        return _examined(asked)
    except MemoryError:
        return {"kind": "MemoryError"}
    except SightlineError as error:
        return (
            {"kind": "MemoryError"} if _is_about_memory(error) else {"kind": type(error).__name__, "said": str(error)}
        )
    except Exception as error:  # noqa: BLE001  libraries raise anything for a damaged file
        kind = "MemoryError" if _is_about_memory(error) else "Exception"
        return {"kind": kind, "said": f"{type(error).__name__}: {error}"}


def _is_about_memory(error: BaseException) -> bool:
    said = str(error).casefold()
    return any(text in said for text in ("alloc", "not enough memory", "out of memory", "memoryerror"))


def _import_what_is_needed(file: Path) -> None:
    """Import before the limit is set, which is for the model and not for the libraries."""
    from sightline.engine import explain
    from sightline.models.load import load

    explain(load("demo/honest", device="cpu"), load("demo/honest", device="cpu").example_input(), "grad_cam")
    if file.suffix in (".keras", ".h5"):
        from sightline.models.keras import import_keras

        import_keras()
    if file.suffix == ".onnx":
        importlib.import_module("onnx")
        importlib.import_module("onnxruntime")


def _limit(gigabytes: float, seconds: int) -> None:
    if sys.platform == "win32":
        return
    import resource

    import torch

    torch.set_num_threads(1)
    most, spent = int(gigabytes * (1 << 30)), int(time.process_time())
    resource.setrlimit(resource.RLIMIT_CPU, (spent + seconds, spent + seconds + _TO_SAY_SO))
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + most, used + most))


def _examined(asked: Asked) -> dict[str, Any]:
    from sightline.models.load import load

    _check(Path(asked.file), asked.gigabytes)
    what, weights = (asked.architecture, asked.file) if asked.architecture else (asked.file, "default")
    model = load(what, weights=weights, labels=asked.labels, device="cpu")
    model.check_weights()
    _explain_once(model)
    return {"kind": ""}


def _explain_once(model: Any) -> None:
    """Predict a random input, and explain it by what the model allows."""
    from sightline.engine import explain
    from sightline.errors import LayerError, RefusedError

    x = model.example_input().to(model.device, model.dtype)
    for method in ("grad_cam", "gradient", "occlusion"):
        try:
            explain(model, x, method)
        except (RefusedError, LayerError):  # the page says so of each method that is asked for
            continue
        return


def _check(file: Path, gigabytes: float) -> None:
    from sightline.errors import ModelError

    if file.suffix == ".keras":
        _check_archive(file, gigabytes)
    if file.suffix == ".onnx" and (beside := next(_kept_beside(file), None)) is not None:
        raise ModelError(
            f"{file} keeps weights in another file ({beside[:80]!r}), which the app does not read; save it as one: "
            "onnx.save(model, path, save_as_external_data=False)."
        )


def _check_archive(file: Path, gigabytes: float) -> None:
    import zipfile

    from sightline.errors import ModelError

    if not zipfile.is_zipfile(file):
        return
    with zipfile.ZipFile(file) as archive:
        size = sum(part.file_size for part in archive.infolist())
    if size > gigabytes * (1 << 30):
        raise ModelError(f"{file} unpacks to {size / (1 << 30):.1f} GB, over the limit of {gigabytes:g} GB.")


def _kept_beside(file: Path) -> Iterator[str]:
    """Yield the places of weights that an ONNX file does not hold itself."""
    import onnx

    try:
        waiting: list[Any] = [onnx.load(str(file), load_external_data=False)]
    except Exception:  # noqa: BLE001  the loader says what is wrong with a damaged file
        return
    while waiting:
        part = waiting.pop()
        if isinstance(part, onnx.TensorProto):
            yield from (entry.value for entry in part.external_data if entry.key == "location")
        else:
            fields = ((field, value) for field, value in part.ListFields() if field.message_type is not None)
            for field, value in fields:
                waiting += value if field.is_repeated else [value]


if __name__ == "__main__":
    main()
