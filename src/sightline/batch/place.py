"""Where a store lies: a folder, or an object store; whole files are put there, read and listed."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.errors import InputError
from sightline.paths import why

__all__ = ["Folder", "Place", "Remote", "place_of"]


@dataclass(frozen=True)
class Folder:
    """A folder of this machine: files are written aside, brought to the disk and renamed."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def put(self, name: str, data: bytes, *, fresh: bool = False) -> None:
        """Write a file whole or not at all; with ``fresh`` FileExistsError is raised where there is one."""
        file = self.path / name
        aside = file.with_name(f".{file.name}.{os.getpid()}.part")
        try:
            _make(file.parent)
            with aside.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            if fresh:
                _link(aside, file)
            else:
                aside.replace(file)
            _sync(file.parent)
        except FileExistsError:
            raise
        except OSError as error:
            raise InputError(
                f"{file} cannot be written ({error.strerror or error}); what was committed before is whole: make room, "
                "or get the right to write, and go on with --resume."
            ) from None
        finally:
            with contextlib.suppress(OSError):  # what stays, the next writer removes
                aside.unlink()

    def get(self, name: str) -> bytes:
        """Read a file; FileNotFoundError where there is none."""
        return (self.path / name).read_bytes()

    def names(self, below: str) -> list[str]:
        """List the files below a folder, sorted, those that were not finished too."""
        return sorted(self.sizes(below))

    def sizes(self, below: str) -> dict[str, int]:
        """Return the files below a folder with their sizes in bytes."""
        files = (p for p in (self.path / below).rglob("*") if p.is_file())
        return {p.relative_to(self.path).as_posix(): p.stat().st_size for p in files}

    def remove(self, name: str) -> None:
        """Remove a file."""
        (self.path / name).unlink(missing_ok=True)

    def uri(self, name: str) -> str:
        """Return a file's path."""
        return str(self.path / name)

    @contextlib.contextmanager
    def locked(self, *, wait: bool) -> Iterator[None]:
        """Hold the store for writing; the lock goes with the process, however that ends.

        Raises InputError where another process holds it, unless that is waited for.
        """
        import fcntl

        try:
            self.path.mkdir(parents=True, exist_ok=True)
            stream = (self.path / "lock").open("a+")
        except OSError as error:
            raise InputError(f"{self.path} cannot be written ({error.strerror}); name another --out.") from None
        with stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                stream.seek(0)
                owner = stream.read().strip()
                raise InputError(
                    f"{self.path} is being written by another run{f' (process {owner})' if owner else ''}; wait for it "
                    "with --wait, or name another --out."
                ) from None
            stream.truncate(0)
            stream.write(str(os.getpid()))
            stream.flush()
            yield


@dataclass(frozen=True)
class Remote:
    """A folder of an object store, by its URL: an object is there whole or not at all, and nothing is renamed."""

    files: Any
    root: str
    url: str

    def __str__(self) -> str:
        return self.url

    def put(self, name: str, data: bytes, *, fresh: bool = False) -> None:
        """Write an object; with ``fresh`` FileExistsError is raised where there is one."""
        try:
            self.files.pipe_file(f"{self.root}/{name}", data, mode="create" if fresh else "overwrite")
        except FileExistsError:
            raise
        except (OSError, NotImplementedError) as error:
            raise InputError(
                f"{self.uri(name)} cannot be written ({why(error)}); what was committed before is whole: go on with "
                "--resume when it can."
            ) from None

    def get(self, name: str) -> bytes:
        """Read an object; FileNotFoundError where there is none."""
        return bytes(self.files.cat_file(f"{self.root}/{name}"))

    def names(self, below: str) -> list[str]:
        """List the objects below a folder, sorted."""
        return sorted(self.sizes(below))

    def sizes(self, below: str) -> dict[str, int]:
        """Return the objects below a folder with their sizes in bytes."""
        self.files.invalidate_cache()  # another process may have written meanwhile
        found = self.files.find(f"{self.root}/{below}", detail=True)
        above = self.root.lstrip("/") + "/"
        return {str(name).lstrip("/").removeprefix(above): int(about["size"]) for name, about in found.items()}

    def remove(self, name: str) -> None:
        """Remove an object."""
        self.files.rm_file(f"{self.root}/{name}")

    def uri(self, name: str) -> str:
        """Return an object's URL."""
        return f"{self.url}/{name}"

    @contextlib.contextmanager
    def locked(self, *, wait: bool) -> Iterator[None]:
        """Hold nothing: two runs meet at the manifest, where an entry is only ever created.

        Raises InputError where that was to be waited for.
        """
        if wait:
            raise InputError(f"{self.url}: an object store has no lock to wait for; leave out --wait.")
        yield


Place = Folder | Remote


def place_of(where: str | os.PathLike[str]) -> Place:
    """Return the place that a path or URL names.

    Raises InputError for a URL whose kind is unknown here.
    """
    said = os.fspath(where)
    if not said.strip():
        raise InputError("an empty name came for the store; name a folder, as --out store.")
    if "://" not in said:
        return Folder(Path(said))
    import fsspec

    try:
        files, root = fsspec.core.url_to_fs(said)
    except (ImportError, ValueError) as error:
        raise InputError(f"{said}: {error}") from None
    if "file" in (files.protocol if isinstance(files.protocol, tuple) else (files.protocol,)):
        return Folder(Path(root))
    return Remote(files, root.rstrip("/"), said.rstrip("/"))


def _link(aside: Path, file: Path) -> None:
    """Give a file its name unless there is one of it; some disks know no links, and there the lock has to do."""
    try:
        os.link(aside, file)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
            raise
        if file.exists():
            raise FileExistsError(errno.EEXIST, "there already", str(file)) from None
        aside.replace(file)


def _make(folder: Path) -> None:
    """Make a folder and those above it, each brought to the disk as an entry of the one that it is in."""
    if not folder.is_dir():
        _make(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)


def _sync(folder: Path) -> None:
    """Bring a folder's entries to the disk, where the system does that of folders."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)
