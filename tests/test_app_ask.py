"""The page Ask in a real browser: cover a region, see the answer change, compare with other places."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

import apps
import pages
from apps import expect

pytestmark = pytest.mark.slow

CHEATING = "ask?model=demo%2Fcheating"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with pages.started() as found:
        yield found


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with apps.served() as found:
        yield found


def sentence(page: Any) -> str:
    return str(page.get_by_role("heading", name=re.compile("this region")).first.inner_text())


def drag(page: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Drag the mouse from one place of the picture to another, both as shares of its sides."""
    stage = page.get_by_role("group", name=re.compile("where a box can be drawn"))
    stage.scroll_into_view_if_needed()
    frame = stage.locator(".frame").first.bounding_box()
    at = [(frame["x"] + x * frame["width"], frame["y"] + y * frame["height"]) for x, y in (start, end)]
    page.mouse.move(*at[0])
    page.mouse.down()
    page.mouse.move(*at[1], steps=5)
    page.mouse.up()


def corner(page: Any) -> tuple[float, float]:
    """Return where the box ends at the lower right, as shares of the picture's sides."""
    found: list[float] = page.evaluate("""() => {
        const box = [...document.querySelectorAll('*')].map((e) => e.shadowRoot?.querySelector('.box')
            ?? e.querySelector(':scope > .box')).find((e) => e);
        const [b, f] = [box, box.parentElement].map((e) => e.getBoundingClientRect());
        return [(b.right - f.left) / f.width, (b.bottom - f.top) / f.height];
    }""")
    return found[0], found[1]


def test_the_hottest_region_is_covered_unasked(browser: Any, address: str) -> None:
    with apps.visit(browser, f"{address}/{CHEATING}") as page:
        assert re.match(r"Without this region “star” falls from 84 % to 1\.\d %: the model needs it", sentence(page))
        expect(page.get_by_text("Here that is borne out")).to_be_visible()
        expect(page.get_by_text("None of them does as much")).to_be_visible()
        expect(page.locator('[aria-label^="This region leaves 1."]')).to_have_count(1)
        apps.pictures(page, "ask")
        page.set_viewport_size({"width": 390, "height": 844})
        apps.pictures(page, "ask")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_box_is_dragged_and_the_sentence_changes_at_once(browser: Any, address: str) -> None:
    with apps.visit(browser, f"{address}/{CHEATING}") as page:
        before = sentence(page)
        started = time.monotonic()
        drag(page, (0.02, 0.02), (0.25, 0.25))
        page.wait_for_function("(old) => !document.body.innerText.includes(old)", arg=before)
        print(f"from the mouse to the sentence: {time.monotonic() - started:.2f} s")
        apps.settled(page)
        assert "hardly changes" in sentence(page)
        assert re.search(r"region=My\+own\+box&left=2\.0&top=2\.0&wide=23\.\d&high=23", page.url)
        url, said = page.url, sentence(page)
        expect(page.get_by_role("row", name=re.compile("covered the picture's mean colour"))).to_have_count(2)
    with apps.visit(browser, url) as page:
        assert sentence(page) == said


def test_the_box_is_moved_by_keys_by_mouse_and_by_numbers(browser: Any, address: str) -> None:
    path = "ask?region=My+own+box&left=12.5&top=12.5&wide=25&high=25"
    with apps.visit(browser, f"{address}/{path}") as page:
        stage = page.get_by_role("group", name=re.compile("the arrow keys move it"))
        stage.focus()
        for key in ("ArrowRight", "ArrowRight", "ArrowDown", "Shift+ArrowRight"):
            page.keyboard.press(key)
        page.wait_for_url(re.compile(r"left=16\.5&top=14\.5&wide=2[67]"))
        apps.settled(page)
        drag(page, (0.25, 0.25), (0.55, 0.35))
        page.wait_for_url(re.compile(r"left=4[67]\.\d&top=2[45]\.\d&wide=2[67]"))
        apps.settled(page)
        right, bottom = corner(page)
        drag(page, (right, bottom), (right + 0.1, bottom + 0.3))
        page.wait_for_url(re.compile(r"left=4[67]\.\d&top=2[45]\.\d&wide=3[67]\.\d&high=5[45]"))
        apps.settled(page)
        before, url = sentence(page), page.url
        drag(page, (0.02, 0.02), (0.02, 0.02))  # a click draws no box
        apps.settled(page)
        assert (sentence(page), page.url) == (before, url)
        page.get_by_text("The box in numbers").click()
        field = page.get_by_label("Width (%)")
        field.fill("5")
        field.press("Enter")
        page.wait_for_url(re.compile(r"wide=5\b"))
        apps.settled(page)
        page.get_by_text("The map's hottest", exact=True).click()
        apps.settled(page)
        assert "region=" not in page.url


def test_only_the_region_is_shown_with_another_filling_for_another_class(browser: Any, address: str) -> None:
    with apps.visit(browser, f"{address}/{CHEATING}") as page:
        maps = page.get_by_role("group", name=re.compile("The map before and after"))
        maps.get_by_role("img").nth(1).wait_for()
        page.get_by_role("radio", name="Show nothing else").click()
        apps.settled(page)
        apps.choose(page, "Filled with", "black")
        page.get_by_role("row", name=re.compile("shown alone black")).wait_for()
        page.get_by_role("heading", name=re.compile("^With this region alone “star” has")).wait_for()
        assert {"mode=Show+nothing+else", "fill=black"} <= set(re.split("[?&]", page.url))
        page.get_by_alt_text("The picture. Only the region is left.").wait_for()
        page.get_by_text("My own box", exact=True).click()  # it starts where the hottest was
        page.wait_for_url(re.compile(r"fill=black&.*region=My\+own\+box&left=68\.8&top=68\.8&wide=31\.2&high=31\.2"))
        apps.settled(page)
        page.get_by_text("The map's hottest", exact=True).click()
        apps.settled(page)
        apps.choose(page, "Class to explain", "ring (5)")
        page.get_by_role("heading", name=re.compile("this region alone “ring” has")).wait_for()


def test_a_method_that_the_model_cannot_have_is_said_on_the_page(browser: Any, address: str) -> None:
    with apps.visit(browser, f"{address}/ask?map=attention_rollout") as page:
        expect(page.get_by_text("Refused: attention_rollout")).to_be_visible()
