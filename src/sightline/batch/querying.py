"""SQL over a store: the tables ``explanations`` and ``images``, functions on heatmaps, and nothing that writes."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from sightline.batch.functions import FUNCTIONS, add_functions, signature
from sightline.batch.store import Store, open_store
from sightline.batch.table import IMAGES, as_parquet
from sightline.errors import InputError, ParameterError, suggest

__all__ = ["Asked", "asking", "query", "statement"]

_TABLES = ("explanations", "images")
_SAME = ("weights_hash", "image", "method", "parameters", "asked")


class Asked:
    """A store that is open for questions; `asking` makes it, and closes it."""

    def __init__(self, connection: Any, store: Store, thread: ThreadPoolExecutor) -> None:
        self.connection, self.store, self._thread = connection, store, thread

    def table(self, sql: str) -> pa.Table:
        """Answer one reading statement; raise ParameterError, in one line, for what cannot be answered."""
        return self._run(lambda: self._relation(sql).to_arrow_table())

    @contextmanager
    def batches(self, sql: str, rows: int = 1024) -> Iterator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
        """Give the columns of the answer to one reading statement, and its rows piece by piece; raises as `table`."""
        reader = self._run(lambda: self._relation(sql).to_arrow_reader(rows))
        try:
            yield reader.schema, self._pieces(reader)
        finally:
            reader.close()

    def _pieces(self, reader: Any) -> Iterator[pa.RecordBatch]:
        while (piece := self._run(lambda: next(reader, None))) is not None:
            if len(piece):
                yield piece

    def _relation(self, sql: str) -> Any:
        _refuse_writing(self.connection, sql)
        return self.connection.sql(sql)

    def _run(self, call: Callable[[], Any]) -> Any:
        """Call DuckDB in another thread, for in the main one it would not hear of Ctrl-C."""
        import duckdb

        future = self._thread.submit(call)
        try:
            return future.result()
        except duckdb.Error as error:
            raise ParameterError(f"SQL: {_one_line(str(error), self.store)}") from None
        except KeyboardInterrupt:
            self.connection.interrupt()
            raise


@contextmanager
def asking(store: Store | str | os.PathLike[str]) -> Iterator[Asked]:
    """Open a store for questions in SQL (see `query`), several of them.

    Raises InputError where there is no store.
    """
    duckdb, _ = _needed()
    found = store if isinstance(store, Store) else open_store(store)
    with (
        tempfile.TemporaryDirectory(prefix="sightline-query-") as scratch,
        duckdb.connect() as connection,
        ThreadPoolExecutor(1) as thread,
    ):
        _prepare(connection, found, scratch)
        yield Asked(connection, found, thread)


def query(store: Store | str | os.PathLike[str], sql: str) -> pa.Table:
    """Answer one reading SQL statement of DuckDB over a store.

    The tables are ``explanations`` (docs/batch.md says what each column holds) and ``images``. A row with an error is
    left out where a later run has the same image, method, parameters and target again. On heatmaps there are
    ``mass(heatmap, left, top, right, bottom)``, ``border(heatmap, width)``, ``centre(heatmap)``, ``peak(heatmap)``,
    ``distance(a, b)`` and ``top_region(heatmap, share)``, in fractions of the picture (see `sightline.batch.regions`);
    they are NULL where a map has nothing above zero. Nothing else can be read, and nothing can be written.

    Raises ParameterError for SQL that cannot be answered, InputError where there is no store.
    """
    with asking(store) as asked:
        return asked.table(sql)


def statement(columns: Iterable[str], condition: str | None, order: str | None = None, limit: int | None = None) -> str:
    """Return the statement of rows of ``explanations``; a condition may begin with WHERE or not.

    >>> statement(["image"], "where score > 0", "score DESC", 3).split("\\n")
    ['SELECT image FROM explanations', 'WHERE score > 0', 'ORDER BY score DESC', 'LIMIT 3']
    """
    which = re.sub(r"^\s*where\b", "", condition or "", flags=re.IGNORECASE).strip()
    parts = {"WHERE": which, "ORDER BY": order or "", "LIMIT": "" if limit is None else str(limit)}
    clauses = [f"{word} {said}" for word, said in parts.items() if said]
    return "\n".join([f"SELECT {', '.join(columns)} FROM explanations", *clauses])  # noqa: S608  asked as any SQL is


def _needed() -> tuple[Any, Any]:
    """Return DuckDB and `Parts`, which needs fsspec; raise InputError where they are not installed."""
    try:
        import duckdb

        from sightline.batch.parts import Parts
    except ImportError as error:
        raise InputError(f'a query needs {error.name}: pip install "sightline[batch]".') from None
    return duckdb, Parts


def _prepare(connection: Any, store: Store, scratch: str) -> None:
    """Make the tables and functions, then lock all else."""
    files = _files(store)
    connection.register_filesystem(_needed()[1](store.place, files))
    connection.execute("SET python_enable_replacements = false; SET enable_progress_bar = false")
    connection.execute(f"SET temp_directory = {_quoted(scratch)}")
    connection.execute(f"SET allowed_paths = {_listed(files)}; SET enable_external_access = false")
    add_functions(connection, store.settings.heatmap)
    images = _scan(name for name in files if name.startswith("images"))
    connection.execute(f"CREATE VIEW images AS FROM {images}")
    connection.execute(f"CREATE VIEW explanations AS {_explanations(connection, store, files)}")
    connection.execute("SET lock_configuration = true")


def _files(store: Store) -> dict[str, str | bytes]:
    """Name the parts so that a later commit's names come later; one without rows says which columns there are."""
    found: dict[str, str | bytes] = {
        _part_of(0): as_parquet(store.schema.empty_table()),
        "images-00000000": as_parquet(IMAGES.empty_table()),
    }
    for commit in store.commits:
        found[f"images-{commit.number:08}"] = commit.images
        found |= {f"{_part_of(commit.number)}-{n:04}": name for n, name in enumerate(commit.explanations)}
    return found


def _part_of(commit: int) -> str:
    return f"explanations-{commit:08}"


def _explanations(connection: Any, store: Store, files: Mapping[str, Any]) -> str:
    """Return the view's statement; the price of looking for mended errors is only paid where there are errors."""
    parts = [name for name in files if name.startswith("explanations")]
    failed = [f"{_part_of(c.number)}-{n:04}" for c in store.commits if c.failed for n in range(len(c.explanations))]
    if not failed:
        return f"FROM {_scan(parts)}"
    _find_mended(connection, failed, parts)
    named = f"(FROM {_scan(failed)} SELECT *, filename) AS failed"
    return (
        f"FROM {_scan(parts)} WHERE error IS NULL UNION ALL FROM {named} SELECT * EXCLUDE (filename) "
        f"WHERE error IS NOT NULL AND NOT EXISTS (FROM own.mended WHERE {_same('mended', 'failed', 'filename')})"
    )


def _find_mended(connection: Any, failed: list[str], parts: list[str]) -> None:
    """Make the table of the rows with an error that a later commit has again."""
    columns = f"filename, parse_filename(filename)[:{len(_part_of(0))}] AS at, {', '.join(_SAME)}"
    connection.execute("CREATE SCHEMA own")
    connection.execute(
        f"CREATE TABLE own.mended AS FROM (FROM {_scan(failed)} SELECT {columns} WHERE error IS NOT NULL) AS failed "
        f"JOIN (FROM {_scan(parts)} SELECT {columns}) AS later ON failed.at < later.at AND {_same('failed', 'later')} "
        "SELECT DISTINCT failed.*"
    )


def _same(a: str, b: str, *more: str) -> str:
    return " AND ".join(f"{a}.{key} IS NOT DISTINCT FROM {b}.{key}" for key in (*_SAME, *more))


def _scan(names: Iterable[str]) -> str:
    return f"read_parquet({_listed(names)}, hive_partitioning = false)"


def _listed(names: Iterable[str]) -> str:
    return f"[{', '.join(_quoted(f'part://{name}') for name in names)}]"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _refuse_writing(connection: Any, sql: str) -> None:
    """Say early, and in words, what could not be done anyway: `Parts` cannot be written, and all else is locked."""
    from duckdb import StatementType

    kinds = [statement.type for statement in connection.extract_statements(sql)]
    if len(kinds) != 1:
        raise ParameterError(f"{len(kinds)} SQL statements came; wanted one that reads the store.")
    if kinds[0] not in (StatementType.SELECT, StatementType.EXPLAIN, StatementType.MULTI):  # the last is a PIVOT
        raise ParameterError(
            f"{kinds[0].name} was asked of a store; it can only be read: SELECT, WITH, DESCRIBE, SUMMARIZE, PIVOT, "
            "EXPLAIN."
        )


def _one_line(error: str, store: Store) -> str:
    """Say an error of DuckDB in one line, with the names that there are."""
    for pattern, said in _ERRORS.items():
        if found := re.search(pattern, error, re.IGNORECASE):
            return str(said(found[1], store))
    text = error.partition("\nLINE ")[0].partition("\n\tCandidate functions:")[0].strip()
    if "Traceback" in text:
        text = text.splitlines()[-1]
    return re.sub(r"^\w+ Error: ", "", " ".join(text.split()))


def _no_column(name: str, store: Store) -> str:
    there = store.schema.names
    return (
        f"there is no column {name}.{suggest(name, [*there, *IMAGES.names])} The table explanations has "
        f"{', '.join(there)}; images has {', '.join(IMAGES.names)}."
    )


def _no_table(name: str, _: Store) -> str:
    return f"there is no table {name}; there are explanations and images.{suggest(name, _TABLES)}"


def _no_function(name: str, _: Store) -> str:
    there = ", ".join(map(signature, FUNCTIONS))
    return f"there is no function {name}.{suggest(name, FUNCTIONS)} On heatmaps there are {there}."


def _other_arguments(name: str, _: Store) -> str:
    return f"{name} was given other arguments; wanted {signature(name.casefold())}."


# The same by the words of DuckDB's errors; what is not here is said as DuckDB says it.
_ERRORS = {
    r"executing the UDF: \w+: (.*)": lambda said, _: said,
    r'does not have a column named "([^"]+)"': _no_column,
    r'Referenced column "([^"]+)" not found': _no_column,
    r"Table with name (\S+) does not exist": _no_table,
    r"Scalar Function with name (\S+) does not exist": _no_function,
    rf"No function matches the given name and argument types '({'|'.join(FUNCTIONS)})\(": _other_arguments,
}
