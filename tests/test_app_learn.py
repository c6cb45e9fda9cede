"""The course in a real browser: every lesson opens, exercises are accepted when right only, the quiz counts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import apps
import pages
from apps import expect
from sightline.app.course.listed import LESSONS
from sightline.app.course.questions import questions

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with apps.served() as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with pages.started() as found:
        yield found


@contextmanager
def lesson(browser: Any, address: str, asked: str, **look: Any) -> Iterator[Any]:
    """Open a lesson by its URL."""
    with apps.visit(browser, f"{address}/learn?lesson={asked}", **look) as page:
        yield page


def check(page: Any) -> str:
    page.get_by_role("button", name="Check what I have set").click()
    apps.settled(page)
    return str(page.get_by_test_id("stAlert").inner_text())


def test_every_lesson_opens_and_takes_no_answer_before_one_is_set(browser: Any, address: str) -> None:
    with lesson(browser, address, LESSONS[0].slug) as page:
        for one in LESSONS:
            page.get_by_role("heading", name=one.title).wait_for()
            apps.settled(page)
            assert page.get_by_test_id("stAlert").count() == 0
            assert page.locator("img:not([alt]), img[alt='']").count() == 0
            page.get_by_text("What do you see?").click()
            assert "Not yet" in check(page)
            page.get_by_role("button", name="Next: ").click()
        page.get_by_role("heading", name="Quiz").wait_for()


@pytest.mark.parametrize(
    ("asked", "state"),
    [
        ("gradient", "gradient-row=7&gradient-column=6"),
        ("grad-cam", "grad-cam-layer=features.relu3"),
        ("integrated-gradients", "ig-baseline=black&ig-steps=50"),
    ],
)
def test_a_right_setting_in_the_url_solves_the_exercise(browser: Any, address: str, asked: str, state: str) -> None:
    with lesson(browser, address, f"{asked}&{state}") as page:
        assert "Right." in check(page)
        expect(page.get_by_text("1 of 9 exercises solved")).to_be_visible()


def test_the_shortcut_is_found_by_hand_and_stays_in_the_url(browser: Any, address: str) -> None:
    with lesson(browser, address, "cheating") as page:
        apps.choose(page, "Model", "cheating")
        apps.choose(page, "Cover", "upper left")
        assert "Not yet" in check(page)
        apps.choose(page, "Cover", "lower right")
        assert "Right." in check(page)
        expect(page.get_by_text("1 of 9 exercises solved")).to_be_visible()
        apps.picture(page, "learn-cheating")
        page.reload()
        apps.settled(page)
        expect(page.get_by_role("heading", name="Why did the cheating model pass")).to_be_visible()
        expect(page.get_by_text("One star; the model says")).to_have_count(1)
        assert "lower+right" in page.url
        assert "Right." in check(page)


def test_without_a_head_the_class_changes_nothing(browser: Any, address: str) -> None:
    with lesson(browser, address, "score") as page:
        apps.choose(page, "Which number?", "No head (include_top=False)")
        assert "Right." in check(page)


def test_next_and_previous_lead_through_the_course(browser: Any, address: str) -> None:
    with lesson(browser, address, "gradient") as page:
        page.get_by_role("button", name="Next: 2.").click()
        apps.settled(page)
        assert "lesson=saliency" in page.url
        page.get_by_role("button", name="Next: 3.").click()
        apps.settled(page)
        expect(page.get_by_text("Lesson 3 of 9")).to_be_visible()
        assert page.evaluate("document.querySelector('[data-testid=stMain]').scrollTop") == 0
        page.get_by_role("button", name="Previous: 2.").click()
        apps.settled(page)
        expect(page.get_by_text("Lesson 2 of 9")).to_be_visible()
        page.get_by_role("button", name="9. Trust").click()
        apps.settled(page)
        assert "lesson=trust" in page.url


def test_the_quiz_counts_explains_and_starts_again(browser: Any, address: str) -> None:
    asked = questions()
    with lesson(browser, address, "quiz") as page:
        groups = page.get_by_role("radiogroup")
        for number, question in enumerate(asked):
            option = question.right if number not in (1, 4) else question.wrong[0]
            texts = [o.text for o in question.options]
            groups.nth(number).locator("label").nth(texts.index(option.text)).click()
        page.get_by_role("button", name="Hand in").click()
        page.get_by_text("8 of 10 right").wait_for()
        expect(page.get_by_text(asked[4].wrong[0].why[:30])).to_be_visible()
        page.get_by_role("button", name="Start the quiz again").click()
        apps.settled(page)
        page.get_by_role("button", name="Hand in").click()
        page.get_by_text("Not answered yet: 1, 2, 3").wait_for()
        assert page.get_by_text("of 10 right").count() == 0


@pytest.mark.parametrize(("width", "scheme"), apps.LOOKS)
def test_pictures_of_lessons(browser: Any, address: str, width: int, scheme: str) -> None:
    with lesson(browser, address, "saliency", width=width, scheme=scheme) as page:
        wide = "document.querySelector('[data-testid=stMain]').scrollWidth"
        assert page.evaluate(wide) <= width
        apps.pictures(page, "learn")
