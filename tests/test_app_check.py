"""The page Check in a real browser: the card beside a control's, the model shuffled, the picture taken away."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import apps
import pages
import sightline
from apps import expect
from sightline.app.examples import EXAMPLES
from sightline.evaluation.measure import measure
from sightline.evaluation.shuffling import shuffled
from sightline.evaluation.stepwise import stepwise

pytestmark = pytest.mark.slow

PICTURE = EXAMPLES["ring with a mark"].draw().image
SHUFFLE, DELETE = "test=Randomise+the+model", "test=Delete+and+insert"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with apps.served() as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with pages.started() as found:
        yield found


@contextmanager
def checking(browser: Any, address: str, query: str = "") -> Iterator[Any]:
    with apps.visit(browser, f"{address}/check?{query}") as page:
        yield page


def pictures(page: Any, name: str) -> None:
    for width in (390, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        apps.pictures(page, name)


def moved(page: Any, label: str, key: str, times: int = 1) -> None:
    slider = page.get_by_role("slider", name=label)
    for _ in range(times):
        slider.press(key)
    apps.settled(page)


def map_sources(page: Any) -> list[str]:
    return [i.get_attribute("src") for i in page.get_by_alt_text(re.compile("map for")).all()]


def test_the_card_stands_beside_that_of_a_map_that_knows_nothing(browser: Any, address: str) -> None:
    with checking(browser, address) as page:
        expect(page.get_by_text("Nothing speaks against it: 4 of 4 checks passed, 1 not checked.")).to_be_visible()
        expect(page.get_by_text("Hardly: 1 of 4 checks passed, 1 not checked.")).to_be_visible()
        signs = [said.split(" ", 1) for said in page.locator(".stMarkdownBadge").all_inner_texts()]
        assert [word for _, word in signs] == ["Yes", "No"] * 3 + ["Yes", "Yes"] + ["Not checked"] * 2
        assert {word: sign for sign, word in signs} == {"Yes": "check_circle", "No": "cancel", "Not checked": "help"}
        expect(page.get_by_text("The weights are shuffled from the output down")).to_be_visible()
        pictures(page, "check-card")


def test_layers_are_shuffled_one_by_one_and_the_map_follows(browser: Any, address: str) -> None:
    e = sightline.explain("demo/honest", PICTURE)
    with checking(browser, address, SHUFFLE) as page:
        expect(page.get_by_text("6 of 6 layers shuffled")).to_be_visible()
        value = shuffled("demo/honest", e, 6).similarity
        expect(page.get_by_text(f"Similarity {value:.2f}.".replace("-", "−"))).to_be_visible()
        first, other = map_sources(page)
        assert first != other
        pictures(page, "check-shuffled")
        moved(page, "Layers shuffled", "ArrowLeft", 4)
        expect(page.get_by_text("2 of 6 layers shuffled")).to_be_visible()
        expect(page.get_by_text("Still trained: features.conv4")).to_be_visible()
        trained, two = map_sources(page)
        assert trained == first
        assert two not in (first, other)
        moved(page, "Layers shuffled", "ArrowLeft", 2)
        expect(page.get_by_text("Both maps are the same")).to_be_visible()
        assert len(set(map_sources(page))) == 1


def test_what_was_shuffled_comes_back_from_the_url(browser: Any, address: str) -> None:
    with checking(browser, address, f"{SHUFFLE}&map=edges&shuffled=3&shuffle_order=This+layer+alone") as page:
        expect(page.get_by_text("Layer 3 of 6 shuffled")).to_be_visible()
        expect(page.get_by_text("Shuffled: features.conv4.")).to_be_visible()
        expect(page.get_by_text("Similarity 1.00. The map is much the same so far.")).to_be_visible()
        assert "shuffled=3" in page.url
        page.get_by_text("This layer and all above").click()
        apps.settled(page)
        moved(page, "Layers shuffled", "ArrowRight", 3)
        expect(page.get_by_text("If it does so for other seeds too, it shows the picture")).to_be_visible()


def test_another_model_has_other_layers(browser: Any, address: str) -> None:
    with checking(browser, address, f"{SHUFFLE}&model=demo%2Fvit&shuffled=20") as page:
        expect(page.get_by_text("20 of 21 layers shuffled")).to_be_visible()
        apps.choose(page, "Model", "demo/honest")
        expect(page.get_by_text("6 of 6 layers shuffled")).to_be_visible()


def test_the_picture_is_taken_away_in_the_steps_of_the_curve(browser: Any, address: str) -> None:
    e = sightline.explain("demo/honest", PICTURE)
    curve = stepwise("demo/honest", e)
    area = measure("demo/honest", e, metric="deletion")["deletion"][0]
    with checking(browser, address, DELETE) as page:
        value = page.get_by_test_id("stMetricValue").first
        expect(value).to_have_text(f"{curve.scores[7]:.1%}")
        expect(page.locator("table tr", has_text="grad_cam").get_by_role("cell").last).to_have_text(f"{area:.3f}")
        expect(page.get_by_text("Better than all four controls")).to_be_visible()
        before = page.get_by_alt_text("that grad_cam marks most taken away").get_attribute("src")
        pictures(page, "check-curves")
        moved(page, "Share taken away", "ArrowRight", 3)
        expect(value).to_have_text(f"{curve.scores[10]:.1%}")
        assert page.get_by_alt_text("that grad_cam marks most taken away").get_attribute("src") != before
        url = page.url
    with checking(browser, address, url.partition("?")[2]) as page:
        expect(page.get_by_test_id("stMetricValue").first).to_have_text(f"{curve.scores[10]:.1%}")


def test_the_picture_is_shown_in_steps_on_another_ground(browser: Any, address: str) -> None:
    e = sightline.explain("demo/honest", PICTURE, "gradient")
    curve = stepwise("demo/honest", e, "insertion", fill="black")
    with checking(browser, address, f"{DELETE}&map=gradient&curve_way=Show+(insertion)&curve_fill=black") as page:
        expect(page.get_by_test_id("stMetricValue").first).to_have_text(f"{curve.scores[7]:.1%}")
        row = page.locator("table tr", has_text="gradient").get_by_role("cell")
        expect(row.last).to_have_text(f"{curve.area:.3f}")


def test_a_method_that_does_not_fit_is_refused_in_a_sentence(browser: Any, address: str) -> None:
    with checking(browser, address, "map=attention_rollout") as page:
        for test in ("Trust card", "Randomise the model", "Delete and insert"):
            page.get_by_role("tab", name=test).click()
            apps.settled(page)
            refusal = page.get_by_text(re.compile("Refused: attention_rollout"))
            expect(refusal).to_have_count(1)
            expect(refusal).to_be_visible()


def test_a_long_check_shows_its_map_first_and_can_be_stopped(browser: Any, address: str) -> None:
    with apps.visit(browser, f"{address}/check?map=rise&picture=star", settle=False) as page:
        page.get_by_role("button", name="Stop").click()
        expect(page.get_by_text("Checking rise was stopped.")).to_be_visible()
        expect(page.get_by_alt_text(re.compile("rise map for"))).to_be_visible()
        expect(page.get_by_role("button", name="Go on")).to_be_visible()
