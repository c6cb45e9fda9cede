"""A Ray cluster to run on: one that is there, or one of this machine, started for a run and gone with it."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import signal
import socket
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from sightline.errors import InputError, ParameterError

__all__ = ["Actors", "actors_of", "connected"]

_ANSWERS = 5.0
_STORE_BYTES = 256 << 20  # units and rows pass through it, no pictures
_FOLDER = "sightline-ray-"
_MOST = 4  # actors on one machine's CPUs, unless more are asked for: each holds the model
_SOCKETS = 90  # bytes that our folder and Ray's own add to the path of a socket, which has 107 at most
_PASSED_ON = ("SIGHTLINE_", "KERAS_", "OMP_NUM_THREADS", "PYTHONPATH", "TORCH_HOME", "HF_")
# Only in the first arena does the C library keep what is freed (see memory.py), and actors' threads have others.
_ARENAS = {"MALLOC_ARENA_MAX": "1"}
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}
_ALONE = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # only then does Ray listen on 127.0.0.1 alone
    "RAY_worker_niceness": "0",  # as the local engine's
    "RAY_memory_monitor_refresh_ms": "0",  # or it ends our actors when others fill this machine's memory
}
_NO_CLUSTER = "no Ray cluster answers there; start one with ray start --head, or leave the option out"


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

    Yields Ray, and whether the cluster is our own. Raises InputError without Ray, and where no cluster answers within
    some seconds.
    """
    named = address or os.environ.get("RAY_ADDRESS") or "local"
    if named not in ("local", "auto"):
        _refuse_unreachable(named)
    with _environment(_QUIET | (_ALONE | _ARENAS if named == "local" else {})), _ray() as ray:
        if ray.is_initialized():
            _refuse_other(ray, address)
            yield ray, False
        elif named == "local":
            with _own(ray, max(os.cpu_count() or 1, actors or 1)):
                yield ray, True
        else:
            with _joined(ray, named):
                yield ray, False


def actors_of(ray: Any, asked: int | None, device: str, *, own: bool) -> Actors:
    """Return how a cluster is shared: without a number, an actor for each GPU, or on CPUs up to four on a machine.

    Raises ParameterError for none, or more than there are GPUs for.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = int(sum(node.get("GPU", 0) for node in nodes))
    cpus = [int(node.get("CPU", 0)) for node in nodes]
    ours = gpus if device == "cuda" else max(1, sum(min(_MOST, here) for here in cpus))
    count = ours if asked is None else asked
    if asked == 0:
        raise ParameterError("--workers 0: with --engine ray they are the actors that explain; wanted 1 or more.")
    if device == "cuda" and not 0 < count <= gpus:
        raise ParameterError(f"--workers {count}: the cluster has {gpus} GPUs, and each actor takes one.")
    share = _share(cpus, count)
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
            # What befell a task and was made good: Ray prints it on stdout, whatever log_to_driver says.
            with _replaced(ray._private.worker, "print_to_stdstream", lambda *_, **__: None):
                yield ray
        finally:
            for log, level in logs.items():
                log.setLevel(level)


@contextlib.contextmanager
def _replaced(module: Any, name: str, value: Any) -> Iterator[None]:
    kept = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, kept)


@contextlib.contextmanager
def _own(ray: Any, cpus: int) -> Iterator[None]:
    with _folder() as folder, _ending() as ends_here:
        try:
            # Set by a variable that is read once: Ray may have been imported before.
            with _stderr_aside(folder), _replaced(ray._private.ray_constants, "ENABLE_RAY_CLUSTER", False):
                ray.init(
                    address="local",
                    num_cpus=cpus,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.CRITICAL,
                    object_store_memory=_STORE_BYTES,
                    _node_ip_address="127.0.0.1",
                    _temp_dir=str(folder),
                )
            ends_here()
            yield
        finally:
            ray.shutdown()


@contextlib.contextmanager
def _joined(ray: Any, address: str) -> Iterator[None]:
    passed_on = _ARENAS | {k: v for k, v in os.environ.items() if k.startswith(_PASSED_ON)}
    with tempfile.TemporaryDirectory() as folder, _ending() as ends_here:
        try:
            with _stderr_aside(Path(folder)):
                ray.init(
                    address=address,
                    log_to_driver=False,
                    logging_level=logging.CRITICAL,
                    runtime_env={"env_vars": passed_on},
                )
            ends_here()
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise InputError(f"--ray-address {address}: {_NO_CLUSTER} ({str(error).splitlines()[0]}).") from None
        try:
            yield
        finally:
            ray.shutdown()


def _refuse_unreachable(address: str) -> None:
    """Raise where nothing answers: Ray itself would try for a minute."""
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdigit():
        raise InputError(f"--ray-address {address}: wanted HOST:PORT of a cluster that this machine is in, or auto.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _ANSWERS).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"--ray-address {address}: {_NO_CLUSTER} ({error}).") from None


def _refuse_other(ray: Any, address: str | None) -> None:
    """Raise where Ray is at work already, and not on the cluster that was named."""
    here = ray.get_runtime_context().gcs_address
    if address not in (None, "auto", here):
        raise InputError(f"--ray-address {address}: Ray runs in this process already, on {here}; leave the option out.")


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """Have a folder for a cluster's files, gone afterwards; those that a killed run left behind go too."""
    at = tempfile.gettempdir()
    within = Path(at if len(os.fsencode(at)) + _SOCKETS <= 107 else "/tmp")  # noqa: S108
    for left in within.glob(f"{_FOLDER}*/lock"):
        with contextlib.suppress(OSError), left.open("a") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left.parent, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=_FOLDER, dir=within))
    with (folder / "new").open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        (folder / "new").rename(folder / "lock")
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _stderr_aside(folder: Path) -> Iterator[None]:
    """Send what Ray's own code writes to stderr as it starts, past Python, to a file."""
    kept = os.dup(2)
    with (folder / "stderr").open("ab") as stream:
        os.dup2(stream.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


@contextlib.contextmanager
def _ending() -> Iterator[Callable[[], object]]:
    """Give SIGTERM back as it was: Ray takes it, and would wait half a minute for its end.

    Yields what gives it back already, to be called as soon as Ray has started. Where it would end this process
    unasked, it then ends it in order.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    kept = signal.getsignal(signal.SIGTERM)
    try:
        yield partial(signal.signal, signal.SIGTERM, _exit if kept is signal.SIG_DFL else kept)
    finally:
        signal.signal(signal.SIGTERM, kept)


def _exit(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)
