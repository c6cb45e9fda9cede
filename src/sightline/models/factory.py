"""Factories and functions of the user's own: ``file.py:function`` and ``package.module:function``."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sightline.errors import ModelError, SightlineError, suggest
from sightline.models import zoo

__all__ = ["find_function", "is_factory", "made_by"]


def made_by(function: Callable[[], Any], what: str) -> Any:
    """Return what a factory makes; raise ModelError with its name where its code fails."""
    return _guarded(function, what)


def is_factory(function: Callable[..., Any]) -> bool:
    """Say whether a function makes a model, and is not one: nothing has to be given to it."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # built into Python or C, which models are and factories are not
        return False
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return all(p.default is not inspect.Parameter.empty or p.kind in kinds for p in parameters)


def find_function(where: str, function: str) -> Callable[..., Any]:
    """Import a file or module and return its function.

    Raises ModelError where there is none, or where the import fails.
    """
    if importlib.util.find_spec("torchvision") is not None:
        zoo.import_torchvision()  # so that the user's own import of it works where its compiled ops do not fit
    module = _import_file(Path(where)) if where.endswith(".py") else _import_module(where)
    found = getattr(module, function, None)
    if not callable(found):
        raise ModelError(f"{where} has no function '{function}'.{suggest(function, vars(module))}")
    return found  # type: ignore[no-any-return]


def _import_file(path: Path) -> Any:
    if not path.is_file():
        raise ModelError(f"{path} does not exist; wanted a Python file, as in --model {path.name}:function.")
    spec = importlib.util.spec_from_file_location(f"sightline_factory_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ModelError(f"{path} is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        _guarded(lambda: spec.loader.exec_module(module), str(path))  # type: ignore[union-attr]
    finally:
        sys.path.remove(str(path.parent.resolve()))
    return module


def _import_module(name: str) -> Any:
    sys.path.insert(0, os.getcwd())
    try:
        return _guarded(lambda: importlib.import_module(name), name)
    finally:
        sys.path.remove(os.getcwd())


def _guarded(run: Callable[[], Any], what: str) -> Any:
    """Run somebody else's code and say whose it was when it fails."""
    try:
        return run()
    except SightlineError:
        raise
    except Exception as error:
        raise ModelError(f"{what}: its code failed with {type(error).__name__}: {error}") from error
