"""The page Compare: methods, classes and models in one grid, in a real browser; its parts without one."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import apps
import pages
from apps import expect
from nets import ConvNet
from sightline.app.grid import Cell, class_texts, index_of
from sightline.app.parts.axes import axes_of
from sightline.app.parts.grids import Shown, grid_html, matrix_html
from sightline.app.parts.likeness import likeness_words
from sightline.app.subject import Asked, Chosen
from sightline.geometry import Preprocessing
from sightline.labels import Labels
from sightline.models.model import Model

SMALL = "compare?models=demo%2Fhonest&models=demo%2Fvit&method=grad_cam&method=attention_rollout"


def chosen(*names: str) -> Chosen:
    return Chosen(Model(ConvNet(), "net", Preprocessing(), Labels(names)), "net")


def test_a_class_is_found_by_its_name_in_models_that_number_and_write_it_otherwise() -> None:
    row = np.array([0.2, 0.5, 0.3])
    assert index_of(chosen("doormat", "tiger cat", "crane"), "tiger cat", row) == 1
    assert index_of(chosen("Tiger_Cat", "x", "y"), "tiger cat", row) == 0
    assert index_of(chosen("a", "b", "c"), "tiger cat", row) is None
    assert [index_of(chosen(), text, row) for text in ("1st guess", "2nd guess", "3rd guess")] == [1, 2, 0]
    assert index_of(chosen(), "3rd guess", row[:2]) is None
    assert index_of(chosen(), "class 2", row) == 2


def test_classes_of_one_name_are_told_apart() -> None:
    cranes = chosen("crane", "cat", "crane")
    assert class_texts(cranes, 3) == {"crane (0)": 0, "cat": 1, "crane (2)": 2}
    assert index_of(cranes, "crane (2)", np.ones(3)) == 2
    assert index_of(cranes, "crane", np.ones(3)) is None


def cells(models: int, classes: int, methods: int) -> list[Cell]:
    return [
        Cell(f"m{m}", chosen(), f"c{c}", Asked(f"a{a}"))
        for m in range(models)
        for c in range(classes)
        for a in range(methods)
    ]


@pytest.mark.parametrize(
    ("counts", "across", "rows", "columns"),
    [
        ((2, 2, 3), "auto", ["m0\nc0", "m0\nc1", "m1\nc0", "m1\nc1"], ["a0", "a1", "a2"]),
        ((2, 2, 1), "auto", ["m0", "m1"], ["c0", "c1"]),
        ((2, 1, 1), "auto", ["c0\na0"], ["m0", "m1"]),
        ((1, 1, 1), "auto", ["m0\nc0"], ["a0"]),
        ((2, 1, 2), "model", ["a0", "a1"], ["m0", "m1"]),
    ],
)
def test_rows_and_columns_are_what_differs(
    counts: tuple[int, int, int], across: str, rows: list[str], columns: list[str]
) -> None:
    listed = cells(*counts)
    axes = axes_of(listed, across)
    assert [row.name for row in axes.rows] == rows
    assert [column.name for column in axes.columns] == columns
    assert {id(axes.at(row, column)) for row in axes.rows for column in axes.columns} == set(map(id, listed))


def test_names_in_the_tables_are_text() -> None:
    evil = "<script>alert(1)</script>"
    made = grid_html(Shown(), [evil], [(evil, [Shown("data:,", evil, (evil,)), Shown(text=evil)])], label=evil, width=9)
    made += matrix_html([evil], np.array([[1.0]]), label=evil)
    assert "<script" not in made
    assert made.count("&lt;script&gt;") == 9


def test_what_agrees_is_said_with_what_chance_gives() -> None:
    values = np.array([[1, 0.9, np.nan, 0.1], [0.9, 1, 0.3, -0.2], [np.nan, 0.3, 1, 0], [0.1, -0.2, 0, 1]])
    said = likeness_words(["a", "b", "c", "random"], values, [False, False, False, True])
    assert said == (
        "Most alike: **a** and **b** (0.90). Least alike: **b** and **c** (0.30). "
        "Controls, which know nothing of the model, reach 0.20 with a method at most."
    )
    assert likeness_words(["a", "b"], np.full((2, 2), np.nan), [False, False]) == ""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with pages.started() as found:
        yield found


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with apps.served() as found:
        yield found


def all_there(page: Any) -> None:
    page.get_by_text("Each number is Spearman's").wait_for()
    apps.settled(page)


@pytest.mark.slow
def test_two_models_and_three_methods_in_one_grid(browser: Any, address: str) -> None:
    with apps.visit(browser, f"{address}/compare") as page:
        all_there(page)
        grid = page.get_by_role("region", name="The maps")
        assert grid.get_by_role("columnheader").all_inner_texts() == ["grad_cam", "integrated_gradients", "random"]
        assert grid.get_by_role("rowheader").all_inner_texts() == ["demo/honest", "demo/cheating"]
        expect(grid.get_by_role("img", name=re.compile("map for “.*”: .*, by demo"))).to_have_count(6)
        expect(grid.get_by_text(re.compile(r"^ring 97"))).to_have_count(3)
        expect(grid.get_by_text(re.compile(r"^star 84"))).to_have_count(3)
        expect(grid.get_by_text("50 passes")).to_have_count(2)
        expect(page.get_by_text("less important")).to_have_count(1)
        expect(page.get_by_text("Controls, which know nothing of the model")).to_be_visible()
        apps.pictures(page, "compare")
        page.set_viewport_size({"width": 390, "height": 844})
        apps.pictures(page, "compare")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert grid.evaluate("g => g.scrollWidth > g.clientWidth")


@pytest.mark.slow
def test_a_refused_cell_says_why_and_the_url_brings_it_back(browser: Any, address: str) -> None:
    with apps.visit(browser, f"{address}/{SMALL}") as page:
        all_there(page)
        grid = page.get_by_role("region", name="The maps")
        expect(grid.get_by_text("Refused: attention_rollout: this model has no attention")).to_have_count(1)
        apps.choose(page, "Classes", "star")
        page.get_by_role("radio", name="Classes").click()
        all_there(page)
        assert grid.get_by_role("columnheader").all_inner_texts() == ["1st guess", "star"]
        expect(grid.get_by_role("img", name=re.compile("map for “star”"))).to_have_count(3)
        url = page.url
    with apps.visit(browser, url) as page:
        all_there(page)
        expect(page.get_by_role("columnheader", name="star", exact=True).first).to_be_visible()


@pytest.mark.slow
def test_the_grid_and_its_numbers_are_downloaded(browser: Any, address: str) -> None:
    with apps.visit(browser, f"{address}/{SMALL}") as page:
        all_there(page)
        picture = Image.open(io.BytesIO(downloaded(page, "Grid as PNG")))
        assert min(picture.size) > 500
        rows = list(csv.DictReader(io.StringIO(downloaded(page, "Numbers as CSV").decode())))
        assert [(r["model"], r["method"]) for r in rows] == [
            (model, method) for model in ("demo/honest", "demo/vit") for method in ("grad_cam", "attention_rollout")
        ]
        assert float(rows[0]["probability"]) > 0.9
        assert rows[1]["refused"].startswith("Refused: ")
        matrix = list(csv.reader(io.StringIO(downloaded(page, "Agreement as CSV").decode())))
        assert [row[0] for row in matrix[1:]] == matrix[0][1:]
        assert float(matrix[1][1]) == pytest.approx(1)


def downloaded(page: Any, name: str) -> bytes:
    with page.expect_download() as found:
        page.get_by_role("button", name=name).click()
    return Path(found.value.path()).read_bytes()


@pytest.mark.slow
def test_long_work_is_stopped_and_goes_on_and_keeps_what_was_made(browser: Any, address: str) -> None:
    path = "compare?models=demo%2Fhonest&method=grad_cam&method=rise&rise.samples=200000"
    with apps.visit(browser, f"{address}/{path}", settle=False) as page:
        page.get_by_role("button", name="Stop").wait_for()
        grid = page.get_by_role("region", name="The maps")
        grid.get_by_role("img", name=re.compile("grad_cam map")).wait_for()
        grid.get_by_text("working …").wait_for()
        page.get_by_role("button", name="Stop").click()
        page.get_by_role("button", name="Go on").wait_for()
        expect(grid.get_by_role("img", name=re.compile("grad_cam map"))).to_have_count(1)
        page.get_by_label("Remove rise").first.click()
        apps.settled(page)
        assert grid.get_by_text("working").count() == 0
