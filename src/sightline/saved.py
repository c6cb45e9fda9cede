"""Reading what Sightline wrote beside pictures: tables and JSON, with a sentence for what is damaged or foreign."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sightline.errors import InputError
from sightline.paths import shown, why

__all__ = ["read_object", "read_table", "refusing"]

_MOST_BYTES = 256 << 20


def read_object(file: Path) -> dict[str, Any]:
    """Return the JSON object in a file; InputError where there is none to be read."""
    _check_size(file)
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{_said(file)} cannot be read as JSON ({why(error)}); {_NEXT}") from None
    if not isinstance(found, dict):
        raise InputError(f"{_said(file)} holds a {type(found).__name__}; wanted an object, so {_NEXT}")
    return found


def read_table(file: Path, columns: Sequence[str]) -> list[tuple[Any, ...]]:
    """Return the rows of a Parquet file, those columns of each; InputError for one that lacks any or is none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    _check_size(file)
    try:
        with file.open("rb") as stream:  # a path would be named in the error
            table = pq.read_table(stream, columns=list(columns))
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{_said(file)} cannot be read as Parquet ({why(error)}); {_NEXT}") from None
    lacking = [c for c in columns if c not in table.column_names]
    if lacking:
        raise InputError(f"{_said(file)} has no column {', '.join(lacking)}; {_NEXT}")
    return list(zip(*(table.column(c).to_pylist() for c in columns), strict=True))


@contextmanager
def refusing(file: Path, writer: str) -> Iterator[None]:
    """Raise InputError where what a file holds is not what ``writer`` writes: a value that is missing or of a kind."""
    try:
        yield
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        what = f"no '{error.args[0]}'" if isinstance(error, KeyError) and error.args else why(error)
        raise InputError(
            f"{_said(file)} is not what this version of {writer} writes ({shown(what)}); update sightline if a newer "
            "one wrote it, or make it anew."
        ) from None


_NEXT = "copy the folder anew, or run the command again."


def _said(file: Path) -> str:
    """Name a file by its folder and itself: the rest of its path is nobody's business on a page."""
    return shown("/".join(file.parts[-2:]))


def _check_size(file: Path) -> None:
    try:
        size = file.stat().st_size
    except OSError as error:
        raise InputError(f"{_said(file)} cannot be read ({why(error)}); {_NEXT}") from None
    if size > _MOST_BYTES:
        raise InputError(f"{_said(file)} has {size >> 20} MB; at most {_MOST_BYTES >> 20} are read.")
