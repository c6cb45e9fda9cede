"""The page of series in a real browser: a digit, another class, several methods, a visitor's own numbers."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import apps
import pages
from apps import expect
from sightline.app.parts.series_chart import Laid, Paint, series_figure
from sightline.app.series import Series, drawn_series, is_of_digits, placed_digit
from sightline.app.settings import Settings
from sightline.demo.mnist1d import mnist1d_signal
from sightline.engine import explain
from sightline.explanation import Explanation
from sightline.models.load import load

TWO_CHANNELS = """
from torch import nn

def make():
    return nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 3)).eval()
"""
slow = pytest.mark.slow


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with pages.started() as found:
        yield found


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("app")
    (folder / "nets.py").write_text(TWO_CHANNELS, encoding="utf-8")
    with apps.served(Settings(models=("demo/honest", "nets.py:make")), folder) as found:
        yield found


@contextmanager
def signals(browser: Any, address: str, query: str = "", width: int = 1280, scheme: str = "light") -> Iterator[Any]:
    with apps.visit(browser, f"{address}/signals{query}", width, scheme) as page:
        yield page


def sees(page: Any, text: str) -> None:
    """Wait until a text is on the page."""
    page.get_by_text(text).first.wait_for()


def hears(page: Any, words: str) -> None:
    """Wait until a chart or picture with such words for those who do not see it is on the page."""
    page.get_by_label(re.compile(words)).first.wait_for()


def fits(page: Any) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    apps.pictures(page, "signals")


def uploaded(page: Any, name: str, data: bytes) -> None:
    file = {"name": name, "mimeType": "application/octet-stream", "buffer": data}
    page.get_by_test_id("stFileUploaderDropzoneInput").set_input_files(file)
    apps.settled(page)


def as_csv(values: Any) -> bytes:
    return "\n".join(",".join(map(str, np.atleast_1d(row))) for row in values).encode()


def downloaded(page: Any, name: str) -> bytes:
    with page.expect_download() as found:
        page.get_by_role("button", name=name).first.click()
    return Path(found.value.path()).read_bytes()


@slow
def test_first_visit_shows_a_digit_its_maps_and_their_truth(browser: Any, address: str) -> None:
    with signals(browser, address) as page:
        sees(page, "integrated_gradients · why “7”")
        sees(page, "The model is right: a 7 was drawn.")
        hears(page, "A series of 40 points .* template of 7 lies on points 20 to 28")
        hears(page, "The templates of the digits 0 to 9; 7 is marked")
        text = page.get_by_text("of what speaks for “7” lies on the 9 points of the 7").first.inner_text()
        share, same, _ = map(int, re.findall(r"(\d+)%", text))
        assert share > 2 * same == 2 * 22
        hears(page, "Colours from against “7” to for “7”")
        fits(page)


@slow
def test_another_class_another_drawing_and_the_url_brings_it_back(browser: Any, address: str) -> None:
    with signals(browser, address) as page:
        page.get_by_title("Explain “2”").click()
        apps.settled(page)
        sees(page, "integrated_gradients · why “2”")
        sees(page, "where a 2 would run")
        apps.choose(page, "Series", "digit 5")
        page.get_by_role("button", name="Another one").click()
        apps.settled(page)
        page.get_by_text("Background").click()
        apps.settled(page)
        url = page.url
    assert {"series=digit", "drawing=4", "series_target=2"} <= set(re.split(r"[?&+]|%20", url))
    with signals(browser, address, f"?{url.partition('?')[2]}") as page:
        sees(page, "a 5 was drawn")
        sees(page, "integrated_gradients · why “2”")
        expect(page.get_by_role("spinbutton", name="Drawing")).to_have_value("4")


@slow
def test_five_methods_stand_below_one_another_and_a_refusal_is_a_sentence(browser: Any, address: str) -> None:
    with signals(browser, address) as page:
        for method in ("gradient", "occlusion", "lrp", "cam"):
            apps.choose(page, "Methods", method)
        for method in ("integrated_gradients", "grad_cam", "gradient", "occlusion", "lrp"):
            sees(page, f"{method} · why “7”")
        sees(page, "Refused: cam needs a net that ends in global average pooling")
        expect(page.locator(".js-plotly-plot").last.locator(".subplot")).to_have_count(6)
        hears(page, "lrp is highest at points")


@slow
def test_an_upload_is_explained_and_leaves_as_files(browser: Any, address: str) -> None:
    values, _ = mnist1d_signal(5, 1)
    with signals(browser, address) as page:
        uploaded(page, "five.csv", as_csv(values))
        sees(page, "integrated_gradients · why “5”")
        sees(page, "where the shape of 5 fits best")
        assert page.get_by_text("of what speaks for").count() == 0
        with Image.open(io.BytesIO(downloaded(page, "PNG"))) as picture:
            assert picture.width > 1000
        with np.load(io.BytesIO(downloaded(page, "NPZ")), allow_pickle=False) as saved:
            np.testing.assert_allclose(saved["signal"][0], values, rtol=1e-6)
            assert saved["heatmap"].shape == (40,)
        assert b"<!doctype html" in downloaded(page, "HTML")


@slow
def test_numbers_are_pasted(browser: Any, address: str) -> None:
    values, _ = mnist1d_signal(2, 1)
    with signals(browser, address) as page:
        page.get_by_text("Paste numbers").click()
        page.get_by_label("Numbers", exact=True).fill(str(values.round(4).tolist()))
        page.get_by_role("button", name="Explain these numbers").click()
        apps.settled(page)
        sees(page, "integrated_gradients · why “2”")
        page.get_by_label("Numbers", exact=True).fill("1, 2, three")
        page.get_by_role("button", name="Explain these numbers").click()
        apps.settled(page)
        sees(page, "what was pasted: value 1 on line 3 is 'three'")


@slow
def test_what_is_no_series_of_the_model_is_said(browser: Any, address: str) -> None:
    with signals(browser, address) as page:
        uploaded(page, "photo.csv", b"\x89PNG\r\n\x1a\n\x00\xff\xfe")
        sees(page, "photo.csv is not text in UTF-8")
        sees(page, "integrated_gradients · why “7”")
        uploaded(page, "short.csv", as_csv(range(39)))
        sees(page, "has 39 values a channel; demo/mnist1d takes 40")
        assert page.get_by_text("photo.csv is not text").count() == 0
        uploaded(page, "gap.txt", b"\n".join([b"nan", *[b"1"] * 39]))
        sees(page, "holds NaN or infinity")


@slow
def test_a_model_of_several_channels_that_was_named_at_the_start(browser: Any, address: str) -> None:
    with signals(browser, address) as page:
        page.get_by_role("combobox", name="Model").click()
        expect(page.get_by_role("option")).to_have_text(["demo/mnist1d", "nets.py:make"])
        page.keyboard.press("Escape")
        apps.choose(page, "Model", "nets.py:make")
        sees(page, "the model takes a series of 2 channels")
        uploaded(page, "two.csv", as_csv(np.random.default_rng(0).normal(size=(500, 2))))
        sees(page, "integrated_gradients · why")
        assert page.get_by_text("The digits without noise").count() == 0
        hears(page, "A series of 500 points")


@slow
def test_it_fits_a_phone(browser: Any, address: str) -> None:
    with signals(browser, address, "", 390, "dark") as page:
        fits(page)


@pytest.fixture(scope="module")
def maps() -> list[Explanation]:
    return explain(load("demo/mnist1d"), drawn_series(7, 3).values, ["integrated_gradients", "gradient"])


def test_the_chart_draws_each_map_on_the_points_of_the_series(maps: list[Explanation]) -> None:
    series = drawn_series(7, 3)
    placed = placed_digit(series, 7)
    figure = series_figure(series.values[None], maps, Paint("line", maps[0]), Laid(placed, placed), "value")
    line, template, signed, unsigned = figure.data
    np.testing.assert_array_equal(line.y, series.values)
    np.testing.assert_array_equal(line.marker.color, maps[0].heatmap)
    np.testing.assert_array_equal(np.isfinite(template.y), placed.at)
    np.testing.assert_array_equal(signed.y, maps[0].heatmap)
    np.testing.assert_array_equal(unsigned.y, np.abs(maps[1].heatmap))
    assert signed.marker.cmin == -signed.marker.cmax
    assert unsigned.marker.cmin == 0
    assert len({figure.layout[f"xaxis{n}"].matches for n in ("", "2")}) == 1
    low, high = figure.layout.yaxis.range
    assert low < min(series.values.min(), np.nanmin(template.y))
    assert high > max(series.values.max(), np.nanmax(template.y))


def test_the_ground_is_coloured_where_a_line_of_its_own_cannot_be(maps: list[Explanation]) -> None:
    values = drawn_series(7, 3).values
    several = series_figure(np.stack([values, -values]), maps, Paint("line", maps[0]), Laid(), "value")
    assert [trace.type for trace in several.data] == ["heatmap", "scatter", "scatter", "bar", "bar"]
    np.testing.assert_array_equal(several.data[0].z[0], maps[0].heatmap)
    plain = series_figure(values[None], maps, Paint("none", maps[0]), Laid(), "value")
    assert [trace.type for trace in plain.data] == ["scatter", "bar", "bar"]
    assert plain.data[0].mode == "lines"


def test_another_digits_template_lies_as_the_drawn_one_does() -> None:
    series = drawn_series(7, 3)
    same, other = placed_digit(series, 7), placed_digit(series, 1)
    assert same is series.placed
    np.testing.assert_array_equal(same.at, other.at)
    assert other.digit == 1
    own = Series(series.values, "own", "key", private=True)
    assert (placed_digit(own, 7).at & same.at).sum() >= 5


def test_only_models_of_forty_points_and_ten_digits_know_the_digits() -> None:
    assert is_of_digits(load("demo/mnist1d"))
    assert is_of_digits(load("mnist1d-cnn"))
    assert not is_of_digits(load("demo/mnist1d", labels=list("abcdefghij")))
    assert not is_of_digits(load("demo/honest"))
