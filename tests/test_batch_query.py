"""SQL over a store: known answers of the functions, rows that count, and nothing that writes."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from sightline.batch import regions
from sightline.batch.parts import Parts
from sightline.batch.place import Folder, place_of
from sightline.batch.querying import asking, query
from sightline.batch.store import open_store
from sightline.cli.main import app
from sightline.errors import InputError, ParameterError
from stores import explained, row, scenes, stored

CORNER = [[1, 0], [0, 0]]
HALVES = [[1, 3], [1, 3]]
UNSEEN = [[np.nan, 2], [np.nan, 2]]
AGAINST = [[-5, 1], [0, 1]]
NOTHING = [[0, -1], [np.nan, 0]]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    at = tmp_path_factory.mktemp("real")
    explained(scenes(at / "scenes"), at / "store")
    explained(at / "scenes", at / "store", "demo/cheating")
    return at / "store"


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    maps = {"corner": CORNER, "halves": HALVES, "unseen": UNSEEN, "against": AGAINST, "nothing": NOTHING}
    found: Path = stored(tmp_path / "s", [row(name, heat) for name, heat in maps.items()])
    return found


def one(store: Any, what: str, image: str) -> Any:
    return query(store, f"SELECT {what} AS x FROM explanations WHERE image = '{image}'")["x"][0].as_py()


@pytest.mark.parametrize(
    ("image", "what", "wanted"),
    [
        ("corner", "mass(heatmap, 0, 0, 0.5, 0.5)", 1.0),
        ("corner", "mass(heatmap, 0, 0, 0.25, 1)", 0.5),  # half of the one hot pixel
        ("corner", "mass(heatmap, 0.25, 0.25, 0.5, 1)", 0.25),
        ("halves", "mass(heatmap, 0.5, 0, 1, 1)", 0.75),
        ("halves", "mass(heatmap, 0, 0, 1, 0.5)", 0.5),
        ("unseen", "mass(heatmap, 0, 0, 1, 1)", 1.0),
        ("against", "mass(heatmap, 0.5, 0, 1, 0.5)", 0.5),  # what speaks against counts as nothing
        ("nothing", "mass(heatmap, 0, 0, 1, 1)", None),
        ("halves", "mass(heatmap, 0, 0, NULL, 1)", None),
        ("halves", "border(heatmap, 0.25)", 0.75),
        ("corner", "centre(heatmap)", {"x": 0.25, "y": 0.25}),
        ("halves", "centre(heatmap)", {"x": 0.625, "y": 0.5}),
        ("nothing", "centre(heatmap)", None),
        ("against", "peak(heatmap)", {"x": 0.75, "y": 0.25}),
        ("nothing", "peak(heatmap)", None),
        ("halves", "distance(heatmap, heatmap)", 0.0),
        ("nothing", "distance(heatmap, heatmap)", None),
        ("unseen", "top_region(heatmap, 0.5)", {"left": 0.5, "top": 0, "right": 1, "bottom": 1, "mass": 1.0}),
        ("halves", "top_region(heatmap, 0.1)", {"left": 0, "top": 0, "right": 1, "bottom": 1, "mass": 1.0}),
        ("halves", "top_region(heatmap, 1).mass", 0.75),
        ("nothing", "top_region(heatmap, 0.5)", None),
    ],
)
def test_the_functions_give_the_known_answers(drawn: Path, image: str, what: str, wanted: Any) -> None:
    assert one(drawn, what, image) == (wanted if wanted is None else pytest.approx(wanted))


def test_distance_is_half_of_what_differs(drawn: Path) -> None:
    sql = """SELECT distance(a.heatmap, b.heatmap) AS d FROM explanations AS a, explanations AS b
             WHERE a.image = 'corner' AND b.image IN ('halves', 'unseen') ORDER BY b.image"""
    assert query(drawn, sql)["d"].to_pylist() == pytest.approx([1 - 1 / 8, 1.0])


def test_the_region_with_the_most_mass_is_found_among_several() -> None:
    heat = np.zeros((2, 6, 6), np.float32)
    heat[0, 0, 0], heat[0, 3:5, 3:6] = 1.0, 0.6  # the peak is alone, more mass lies in the other
    heat[1, 5, 5], heat[1, 4, 4] = 1.0, 0.9  # corners do not touch
    found = regions.top_region(heat, np.array([0.5, 0.5]))
    assert found[0] == pytest.approx([3 / 6, 3 / 6, 1, 5 / 6, 3.6 / 4.6])
    assert found[1] == pytest.approx([5 / 6, 5 / 6, 1, 1, 1.0 / 1.9])
    assert [r.mass for r in regions.regions(heat[1], 0.5)] == pytest.approx([1.0 / 1.9, 0.9 / 1.9])


def test_a_series_has_no_up_and_down(tmp_path: Path) -> None:
    store = stored(tmp_path / "s", [row("one", [0, 4, 0, 1])], shape=(4,))
    assert one(store, "mass(heatmap, 0, 0, 0.375, 1)", "one") == pytest.approx(0.4)
    assert one(store, "centre(heatmap)", "one") == pytest.approx({"x": (4 * 0.375 + 0.875) / 5, "y": 0.5})
    region = {"left": 0.25, "top": 0, "right": 0.5, "bottom": 1, "mass": 0.8}
    assert one(store, "top_region(heatmap, 0.5)", "one") == pytest.approx(region)


def test_the_answers_are_those_of_the_maps_whatever_the_number_of_rows(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(5000, 2, 2)).astype(np.float16)  # more than DuckDB hands over at once
    store = stored(tmp_path / "s", [row(str(n), m if n % 7 else None) for n, m in enumerate(maps)])
    found = query(store, "SELECT image, mass(heatmap, 0, 0, 1, 0.5) AS m FROM explanations")
    there = dict(zip(found["image"].to_pylist(), found["m"].to_pylist(), strict=True))
    assert len(there) == 5000
    for n in range(5000):  # several threads read one part
        heat = maps[n].clip(min=0).astype(float)
        known = n % 7 and heat.sum() > 0
        assert there[str(n)] == (pytest.approx(heat[0].sum() / heat.sum(), abs=1e-6) if known else None)


def test_threads_that_read_one_part_have_a_place_each(tmp_path: Path) -> None:
    part = Parts(place_of(tmp_path), {"a": bytes(range(200))}).open("part://a")
    part.seek(100)
    with ThreadPoolExecutor(1) as other:
        assert other.submit(lambda: (part.seek(7), part.read(2), part.seek(-1, 1), part.tell())).result()[1:] == (
            b"\x07\x08",
            8,
            8,
        )
    assert (part.tell(), part.read(2), part.read(2)) == (100, b"de", b"fg")
    assert (part.seek(-1, 2), part.read(), part.read()) == (199, b"\xc7", b"")


def test_real_maps_answer(real: Path) -> None:
    found = query(real, "SELECT model, count(*) AS n, avg(mass(heatmap, 0, 0, 1, 1)) AS m FROM explanations GROUP BY 1")
    assert sorted(found["model"].to_pylist()) == ["demo/cheating", "demo/honest"]
    assert found["n"].to_pylist() == [4, 4]
    assert found["m"].to_pylist() == pytest.approx([1.0, 1.0])
    assert len(query(real, "FROM images")) == 8


def test_an_error_that_a_later_run_mended_is_hidden(tmp_path: Path) -> None:
    gone = [row("back", None, error="no such file"), row("gone", None, error="no such file"), row("well", CORNER)]
    other = row("back", CORNER, asked="3")
    again = [row("back", CORNER), row("gone", None, error="still no such file")]
    store = stored(tmp_path / "s", gone, [other], again)
    found = query(store, "SELECT image, asked, error FROM explanations ORDER BY image, asked").to_pylist()
    assert [tuple(r.values()) for r in found] == [
        ("back", "3", None),
        ("back", "top1", None),
        ("gone", "top1", "still no such file"),
        ("well", "top1", None),
    ]
    assert query(store, "SELECT count(*) AS n FROM explanations WHERE error IS NULL")["n"].to_pylist() == [3]
    assert query(store, "SHOW TABLES")["name"].to_pylist() == ["explanations", "images"]


def test_a_good_row_does_not_hide_a_later_error(tmp_path: Path) -> None:
    store = stored(tmp_path / "s", [row("a", CORNER)], [row("a", None, error="gone")])
    assert len(query(store, "FROM explanations")) == 2


def test_an_empty_store_has_its_columns(tmp_path: Path) -> None:
    store = stored(tmp_path / "s")
    assert query(store, "FROM explanations").column_names == open_store(store).schema.names
    assert query(store, "SELECT count(*) AS n FROM images")["n"].to_pylist() == [0]


def test_a_store_in_an_object_store_is_read_where_it_is() -> None:
    store = stored("memory://query-test/s", [row("a", CORNER)], [row("b", HALVES)])
    assert query(store, "SELECT sum(mass(heatmap, 0, 0, 0.5, 1)) AS m FROM explanations")["m"].to_pylist() == [1.25]
    before = {n: open_store(store).place.get(n) for n in open_store(store).place.names("")}
    with pytest.raises(ParameterError, match="never written"):
        query(store, "WITH x AS (COPY (SELECT 1) TO 'part://explanations-00000001-0000' (USE_TMP_FILE false)) FROM x")
    assert {n: open_store(store).place.get(n) for n in open_store(store).place.names("")} == before


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        "WITH a AS (FROM explanations) SELECT count(*) FROM a",
        "DESCRIBE explanations",
        "SHOW TABLES",
        "SUMMARIZE explanations",
        "EXPLAIN SELECT count(*) FROM explanations",
        "PIVOT explanations ON image USING count(*) GROUP BY method",
        "VALUES (1), (2)",
        "-- a remark\nSELECT 1;",
    ],
)
def test_whatever_reads_is_answered(drawn: Path, sql: str) -> None:
    assert len(query(drawn, sql)) > 0


def writings(part: str, folder: Path) -> list[str]:
    aside = "(USE_TMP_FILE false)"
    return [
        f"COPY (SELECT 1) TO '{part}' {aside}",
        f"COPY (SELECT 1) TO 'part://explanations-00000001-0000' {aside}",
        f"WITH x AS (COPY (SELECT 1) TO '{part}' {aside}) SELECT 1",
        f"WITH x AS (COPY (SELECT 1) TO 'part://explanations-00000001-0000' {aside}) SELECT 1",
        f"WITH x AS (COPY (SELECT 1) TO 'part://new' {aside}) SELECT 1",
        f"WITH x AS (COPY (SELECT 1) TO '{folder / 'new.csv'}' {aside}) SELECT 1",
        f"EXPLAIN ANALYZE COPY (SELECT 1) TO '{part}' {aside}",
        f"EXPLAIN ANALYZE COPY (SELECT 1) TO 'part://explanations-00000001-0000' {aside}",
        f"SELECT * FROM query('COPY (SELECT 1) TO ''{part}'' {aside}')",
        f"EXPORT DATABASE '{folder / 'new'}'",
        f"ATTACH '{part}' AS other",
        f"ATTACH '{folder / 'new.db'}' AS other",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "SET lock_configuration = false",
        "PRAGMA enable_profiling",
        "CREATE TABLE x AS SELECT 1",
        "CREATE OR REPLACE VIEW explanations AS SELECT 1",
        "DROP VIEW explanations",
        "INSERT INTO explanations SELECT * FROM explanations",
        "DELETE FROM explanations",
        "SELECT 1; DROP VIEW explanations",
        "CALL pragma_version()",
        "",
    ]


def reachings(folder: Path) -> list[str]:
    return [
        f"SELECT * FROM read_text('{folder / 'secret.txt'}')",
        f"SELECT * FROM '{folder / 'secret.csv'}'",
        f"SELECT * FROM read_csv('{folder / 'secret.csv'}')",
        f"SELECT * FROM glob('{folder}/*')",
        f"SELECT * FROM read_text('file://{folder / 'secret.txt'}')",
        "SELECT * FROM glob('part://*')",
        "SELECT * FROM read_parquet('part://other')",
        "SELECT * FROM local_table",
    ]


def state(folder: Path) -> dict[str, str]:
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()}


def test_nothing_can_be_written_or_reached(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local_table = query(drawn, "FROM images")  # a name of Python that DuckDB could look up
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "secret.csv").write_text("a,b\n1,2\n")
    monkeypatch.chdir(tmp_path)
    part, before = open_store(drawn).parts[0], state(tmp_path)
    for sql in [*writings(part, tmp_path), *reachings(tmp_path)]:
        with pytest.raises(ParameterError) as caught:
            query(drawn, sql)
        assert "\n" not in str(caught.value), sql
        assert state(tmp_path) == before, sql
    assert len(query(drawn, "FROM explanations")) == len(local_table) == 5


def test_parts_only_open_to_be_read(drawn: Path) -> None:
    files = Parts(Folder(drawn), {"a": "store.json", "b": b"bytes"})
    assert files.open("part://a").read() == (drawn / "store.json").read_bytes()
    assert files.open("part://b").read() == b"bytes"
    assert files.info("part://b")["size"] == 5
    for mode in ("wb", "r+b", "ab", "xb"):
        with pytest.raises(PermissionError):
            files.open("part://a", mode)
    with pytest.raises(NotImplementedError):
        files.rm("part://a")
    assert not files.exists("part://c")


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELECT heatmp FROM explanations", "no column heatmp. Did you mean heatmap"),
        ("SELECT e.scor FROM explanations e", "Did you mean score"),
        ("SELECT * FROM explanation", "no table explanation; there are explanations and images"),
        ("SELECT mas(heatmap) FROM explanations", "no function mas. Did you mean mass"),
        ("SELECT MASS(heatmap, 1) FROM explanations", r"wanted mass\(heatmap, left, top, right, bottom\)"),
        ("SELECT mass(heatmap, 0, 0, 64, 64) FROM explanations", "right is 64; wanted a fraction"),
        ("SELECT mass(heatmap, 0.5, 0, 0.25, 1) FROM explanations", "left is 0.5 and right 0.25"),
        ("SELECT border(heatmap, 0.7) FROM explanations", "0 to 0.5"),
        ("SELECT top_region(heatmap, 2) FROM explanations", "a share of 2 came"),
        ("SELECT peak([1.0])", "a list of 1 numbers came as a heatmap; wanted 4"),
        ("SELEC 1", 'syntax error at or near "SELEC"'),
        ("SELECT 1 / 'a'", "SQL: "),
    ],
)
def test_what_is_wrong_is_said_in_one_line(drawn: Path, sql: str, said: str) -> None:
    with pytest.raises(ParameterError, match=said) as caught:
        query(drawn, sql)
    assert "\n" not in str(caught.value)


def test_a_large_answer_comes_in_pieces(tmp_path: Path) -> None:
    store = stored(tmp_path / "s", [row(str(n), CORNER) for n in range(300)])
    with asking(store) as asked:
        with asked.batches("SELECT image FROM explanations", 100) as (columns, pieces):
            assert columns.names == ["image"]
            sizes = [len(p) for p in pieces]
            assert (sum(sizes), max(sizes) <= 100, len(sizes) > 2) == (300, True, True)
        with pytest.raises(ParameterError, match="no column"), asked.batches("SELECT x FROM explanations"):
            pass


def test_no_store_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no store"):
        query(tmp_path / "none", "SELECT 1")


def asked_of(*words: Any) -> tuple[int, str]:
    found = CliRunner().invoke(app, ["query", *map(str, words)])
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found.exit_code, found.stdout


def test_the_command_prints_a_table_and_says_how_much_more(drawn: Path) -> None:
    code, text = asked_of(drawn, "SELECT image, heatmap, centre(heatmap) FROM explanations", "--limit", "2")
    assert code == 0
    assert "2x2 map" in text
    assert "x 0.25, y 0.25" in text
    assert "5 rows, 2 shown; --limit 5 shows all" in text
    assert "unseen" not in text


def test_the_command_lays_wide_rows_out_by_column(drawn: Path) -> None:
    _, text = asked_of(drawn, "FROM explanations LIMIT 1")
    lines = [line.split() for line in text.splitlines()]
    assert ["image", "corner"] in lines
    assert ["heatmap", "2x2", "map"] in lines
    assert ["error", "–"] in lines


def test_the_command_prints_plans_as_they_are(drawn: Path) -> None:
    assert "Projection" in asked_of(drawn, "EXPLAIN SELECT 1")[1]


def test_json_is_one_object_without_maps_unless_they_are_wanted(drawn: Path) -> None:
    sql = "SELECT image, heatmap, {'a': 'nan'::DOUBLE} AS s, sum(1) OVER () AS n, MAP {'k': 1.5} AS m FROM explanations"
    found = json.loads(asked_of(drawn, sql, "--json", "--limit", "1")[1])
    wanted = {"image": "corner", "s": {"a": None}, "n": 5, "m": {"k": 1.5}}
    assert found == {"columns": ["image", "s", "n", "m"], "rows": [wanted], "count": 5, "left_out": ["heatmap"]}
    found = json.loads(asked_of(drawn, "SELECT heatmap FROM explanations", "--json", "--heatmaps")[1])
    assert len(found["rows"]) == 5
    assert found["rows"][2] == {"heatmap": [None, 2.0, None, 2.0]}


def test_columns_of_one_name_are_told_apart_in_json(drawn: Path) -> None:
    found = json.loads(asked_of(drawn, "SELECT 1 AS a, 2 AS a, DATE '2020-01-02' AS b", "--json")[1])
    assert found["rows"] == [{"a": 1, "a_2": 2, "b": "2020-01-02"}]


@pytest.mark.parametrize(
    "what", ["count(*) FROM range(100000000000) AS t(i) WHERE i % 7 = 8", "sum(border(heatmap, 0.1))"]
)
def test_ctrl_c_ends_a_query_as_it_ends_all_else(tmp_path: Path, what: str) -> None:
    store = stored(tmp_path / "s", [row(str(n), CORNER) for n in range(2000)])
    crossed = what if "FROM" in what else f"{what} FROM explanations AS a, range(100000)"
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        query(store, f"SELECT {crossed}")
    timer.join()
