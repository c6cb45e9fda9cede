"""A Ray cluster to run on: one that is there, or one of this machine, started for a run and gone with it."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import socket
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from sightline.errors import InputError, ParameterError

__all__ = ["Actors", "actors_of", "connected"]

_ANSWERS = 5.0
_STORE_BYTES = 256 << 20  # units and rows pass through it, no pictures
_SESSION = 75  # bytes that Ray adds to its folder for a socket's path, which has 107 at most
_PASSED_ON = ("SIGHTLINE_", "KERAS_", "OMP_NUM_THREADS", "PYTHONPATH", "TORCH_HOME", "HF_")
_ALONE = {"RAY_BACKEND_LOG_LEVEL": "fatal", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # the latter: on 127.0.0.1 only


@dataclass(frozen=True)
class Actors:
    """How many processes explain, and what each takes: CPUs, a GPU or none, threads of torch, processes that decode."""

    count: int
    cpus: int
    gpus: int
    threads: int
    decoders: int


@contextlib.contextmanager
def connected(address: str | None, actors: int | None) -> Iterator[tuple[Any, bool]]:
    """Have Ray ready: as it is, on the cluster of an address (or of RAY_ADDRESS), or on one of our own.

    Yields Ray, and whether it is of this machine alone. Raises InputError without Ray, and where no cluster answers
    within some seconds.
    """
    named = address or os.environ.get("RAY_ADDRESS") or "local"
    with _environment({"RAY_USAGE_STATS_ENABLED": "0"} | (_ALONE if named == "local" else {})), _ray() as ray:
        if ray.is_initialized():
            yield ray, False
        elif named == "local":
            with _own(ray, max(os.cpu_count() or 1, actors or 1)):
                yield ray, True
        else:
            with _joined(ray, named):
                yield ray, False


def actors_of(ray: Any, asked: int | None, device: str, *, own: bool) -> Actors:
    """Return how a cluster is shared: without a number, an actor for each GPU, or on CPUs for each machine.

    Raises ParameterError for none, or more than there are GPUs for.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = int(sum(node.get("GPU", 0) for node in nodes))
    count = asked if asked is not None else gpus if device == "cuda" else len(nodes)
    if asked == 0:
        raise ParameterError("--workers 0: with --engine ray they are the actors that explain; wanted 1 or more.")
    if device == "cuda" and not 0 < count <= gpus:
        raise ParameterError(f"--workers {count}: the cluster has {gpus} GPUs, and each actor takes one.")
    share = _share([int(node.get("CPU", 0)) for node in nodes], count)
    limited = own or "OMP_NUM_THREADS" in os.environ
    threads = min(share, torch.get_num_threads()) if limited else share
    return Actors(count, share, int(device == "cuda"), threads, max(1, share // 2))


def _share(cpus: list[int], count: int) -> int:
    """Return the most CPUs that each of so many actors can have, given those of each machine."""
    return next((s for s in range(max(cpus), 1, -1) if sum(c // s for c in cpus) >= count), 1)


@contextlib.contextmanager
def _environment(wanted: Mapping[str, str]) -> Iterator[None]:
    """Set variables that Ray and the processes that it starts read; what was set already stays."""
    new = [name for name in wanted if name not in os.environ]
    os.environ.update({name: wanted[name] for name in new})
    try:
        yield
    finally:
        for name in new:
            os.environ.pop(name, None)


@contextlib.contextmanager
def _ray() -> Iterator[Any]:
    """Import Ray, and keep what it says of itself off the screen."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"ray\..*")
        try:
            import ray
            import ray.data
        except ImportError:
            raise InputError("--engine ray takes Ray, which is not here; pip install 'sightline[ray]'.") from None
        logs = {log: log.level for log in map(logging.getLogger, ("ray", "ray.data"))}
        for log in logs:
            log.setLevel(logging.CRITICAL)
        try:
            yield ray
        finally:
            for log, level in logs.items():
                log.setLevel(level)


@contextlib.contextmanager
def _own(ray: Any, cpus: int) -> Iterator[None]:
    folder = tempfile.mkdtemp(prefix="sightline-ray-", dir=_short_folder())
    try:
        ray.init(
            address="local",
            num_cpus=cpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=_STORE_BYTES,
            _node_ip_address="127.0.0.1",
            _temp_dir=folder,
        )
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def _short_folder() -> str | None:
    """Return a folder for temporary files in which sockets can be named, None for the usual one."""
    return None if len(tempfile.gettempdir()) + _SESSION < 107 - len("/sightline-ray-12345678") else "/tmp"  # noqa: S108


@contextlib.contextmanager
def _joined(ray: Any, address: str) -> Iterator[None]:
    _refuse_unreachable(address)
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": {k: v for k, v in os.environ.items() if k.startswith(_PASSED_ON)}},
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise InputError(f"--ray-address {address}: {_NO_CLUSTER} ({str(error).splitlines()[0]}).") from None
    try:
        yield
    finally:
        ray.shutdown()


_NO_CLUSTER = "no Ray cluster of this version answers there; start one with ray start --head, or leave the option out"


def _refuse_unreachable(address: str) -> None:
    """Raise where nothing answers: Ray itself would try for a minute."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdigit():
        raise InputError(
            f"--ray-address {address}: wanted HOST:PORT of a cluster that this machine is in, or auto."
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), _ANSWERS).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"--ray-address {address}: {_NO_CLUSTER} ({error}).") from None
