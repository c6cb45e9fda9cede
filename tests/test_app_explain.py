"""The app's first page in a real browser: a visitor asks why, of a picture, a model, a class, by several methods."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import apps
import pages
import sightline
from apps import expect
from sightline.app.examples import EXAMPLES
from sightline.demo.scenes import scene

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with apps.served() as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with pages.started() as found:
        yield found


def _photo(seed: int, label: int, size: tuple[int, int] = (320, 240)) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(scene(seed, label=label).image).resize(size).save(stream, "JPEG", quality=95)
    return stream.getvalue()


def _upload(page: Any, name: str, data: bytes) -> None:
    page.set_input_files(
        "[data-testid=stFileUploaderDropzoneInput]", {"name": name, "mimeType": "image/jpeg", "buffer": data}
    )


@pytest.mark.parametrize(("width", "scheme"), apps.LOOKS)
def test_first_visit_shows_a_map_in_every_view(browser: Any, address: str, width: int, scheme: str) -> None:
    with apps.visit(browser, address, width, scheme) as page:
        expect(page.get_by_text("grad_cam · why “ring” (0.97)?")).to_be_visible()
        page.get_by_alt_text("grad_cam map for “ring”").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        apps.pictures(page, "explain")


def test_five_methods_and_the_state_comes_back_from_the_url(browser: Any, address: str) -> None:
    methods = ["integrated_gradients", "guided_backprop", "smooth_grad", "lrp"]
    with apps.visit(browser, address) as page:
        for method in methods:
            apps.choose(page, "Methods", method)
        apps.choose(page, "Model", "demo/cheating")
        page.get_by_text("lrp · why “star”").wait_for()  # the last map of the new model, so its bars are there too
        page.get_by_title("Explain “ring”").click()
        page.get_by_text("lrp · why “ring”").wait_for()
        apps.settled(page)
        page.get_by_text("grad_cam: parameters").click()
        page.get_by_role("checkbox", name="relu").first.click(force=True)
        apps.settled(page)
        url = page.url
        apps.picture(page, "explain-five")
    assert "grad_cam.relu=false" in url.casefold()
    with apps.visit(browser, url) as page:
        for method in ("grad_cam", *methods):
            expect(page.get_by_text(f"{method} · why “ring”")).to_be_visible()
        expect(page.get_by_title("Explain “ring”")).to_have_attribute("aria-pressed", "true")


def test_downloads_hold_what_explain_gives(browser: Any, address: str) -> None:
    example = EXAMPLES["star"].draw().image
    own = sightline.explain("demo/honest", example, "grad_cam")
    with apps.visit(browser, f"{address}/?picture=star") as page:
        saved = {name: _downloaded(page, name) for name in ("PNG", "NPZ", "HTML")}
    assert np.array_equal(sightline.Explanation.load(saved["NPZ"]).heatmap, own.heatmap)
    with Image.open(saved["PNG"]) as drawn:
        assert np.array_equal(np.asarray(drawn), np.asarray(own.render("overlay")))
    assert "grad_cam" in saved["HTML"].read_text(encoding="utf-8")


def _downloaded(page: Any, name: str) -> Path:
    with page.expect_download() as found:
        page.get_by_role("button", name=name, exact=False).first.click()
    folder = Path(found.value.path()).parent
    target = folder / found.value.suggested_filename
    found.value.save_as(target)
    return target


def test_an_upload_is_explained_at_its_own_size_and_timed(
    browser: Any, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with apps.visit(browser, f"{address}/?method=gradient") as page:
        started = time.monotonic()
        _upload(page, "mine.jpg", _photo(21, 3))
        page.get_by_alt_text(re.compile("The picture: your mine.jpg")).wait_for()
        page.get_by_alt_text("gradient map for “star”").wait_for()
        first = time.monotonic() - started
        apps.settled(page)
        started = time.monotonic()
        apps.choose(page, "Methods", "grad_cam")
        page.get_by_alt_text("grad_cam map for “star”").wait_for()
        following = time.monotonic() - started
        with Image.open(_downloaded(page, "PNG")) as drawn:
            assert drawn.size == (320, 240)
    with capsys.disabled():
        print(f"\nfirst picture after the upload {first:.2f} s, the next method {following:.2f} s")


def test_the_photo_can_be_put_beside_the_map_and_zoomed(browser: Any, address: str) -> None:
    with apps.visit(browser, address) as page:
        maps = page.get_by_alt_text("grad_cam map")
        page.get_by_role("button", name="Side by side").click()
        expect(maps).to_have_count(1)
        expect(page.get_by_alt_text("The photo without the map")).to_have_count(1)
        page.get_by_role("button", name="Photo", exact=True).click()
        expect(maps).to_have_count(0)
        page.get_by_role("button", name="Flicker").click()
        maps.wait_for()
        page.get_by_role("button", name="Map", exact=True).click()
        stage = page.get_by_role("group", name=re.compile("grad_cam for ring"))
        stage.focus()
        page.keyboard.press("+")
        expect(page.get_by_text("125 %")).to_have_count(1)
        page.keyboard.press("0")
        expect(maps).to_have_attribute("style", re.compile(re.escape("scale(1)")))


def test_long_work_counts_and_can_be_stopped(browser: Any, address: str) -> None:
    with apps.visit(browser, f"{address}/?method=rise&rise.samples=2000000", settle=False) as page:
        page.get_by_text(re.compile("rise: [0-9,]+ of about 2,000,000 passes")).wait_for()
        page.get_by_role("button", name="Stop").click()
        page.get_by_text("rise was stopped.").wait_for()
        expect(page.get_by_role("button", name="Go on")).to_be_visible()


def test_what_is_refused_is_a_sentence(browser: Any, address: str) -> None:
    with apps.visit(browser, f"{address}/?method=attention_rollout&model=demo%2Fhonest") as page:
        expect(page.get_by_text(re.compile("Refused: .*attention"))).to_be_visible()
        assert page.get_by_text("Traceback").count() == 0


def test_two_visitors_see_their_own(browser: Any, address: str) -> None:
    with apps.visit(browser, address) as one, apps.visit(browser, address, alone=True) as two:
        _upload(one, "same.jpg", _photo(31, 0))
        _upload(two, "same.jpg", _photo(33, 4))
        one.get_by_alt_text("grad_cam map for “disc”").wait_for()
        two.get_by_alt_text("grad_cam map for “cross”").wait_for()
        apps.choose(one, "Class to explain", "square (1)")
        apps.choose(two, "Class to explain", "star (3)")
        one.get_by_alt_text("grad_cam map for “square”").wait_for()
        two.get_by_alt_text("grad_cam map for “star”").wait_for()


def test_why_this_rather_than_that(browser: Any, address: str) -> None:
    with apps.visit(browser, address) as page:
        apps.choose(page, "Rather than", "star (3)")
        page.get_by_text(re.compile("grad_cam · why “ring.*star”")).wait_for()
        assert "contrast=star" in page.url


def test_what_a_link_asks_for_and_is_not_here_is_said(browser: Any, address: str) -> None:
    with apps.visit(browser, f"{address}/?model=resnet50&method=bogus&picture=nothing&layer=nope") as page:
        for asked in ("resnet50", "bogus", "nothing", "nope"):
            page.get_by_text(f"“{asked}”, which is not offered here").wait_for()
        page.get_by_alt_text("grad_cam map for “ring”").wait_for()


def test_the_link_says_all_that_is_chosen_and_the_model_comes_along(browser: Any, address: str) -> None:
    with apps.visit(browser, f"{address}/?model=demo%2Fvit") as page:
        page.get_by_role("button", name="Link to this").click()
        page.get_by_text("method=grad_cam").wait_for()
        expect(page.get_by_text("picture=ring+with+a+mark")).to_have_count(1)
        page.keyboard.press("Escape")
        page.get_by_role("link", name="Compare", exact=True).click()
        page.get_by_text("Which method, which class, which model?").wait_for()
        apps.settled(page)
        page.get_by_text("demo/vit", exact=True).first.wait_for()  # it is not among those that Compare begins with
        page.get_by_role("link", name="Explain", exact=True).click()
        page.get_by_text("grad_cam · why").wait_for()
        page.get_by_role("button", name="Can it be believed?").click()
        page.get_by_text("Five questions are put to the map").wait_for()
