"""The app's first page in a real browser: a visitor asks why, of a picture, a model, a class, by several methods."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import apps
import pages

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with apps.served() as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with pages.started() as found:
        yield found


def test_first_visit_shows_a_map(browser: Any, address: str, tmp_path: Path) -> None:
    with apps.visit(browser, address) as page:
        assert page.get_by_text("grad_cam · why “ring”").is_visible()
        assert page.get_by_alt_text("grad_cam map for “ring”").count() == 1
        apps.picture(page, tmp_path, "explain-first")


def test_state_comes_back_from_the_url(browser: Any, address: str) -> None:
    with apps.visit(browser, address) as page:
        apps.choose(page, "Methods", "integrated_gradients")
        apps.choose(page, "Model", "demo/cheating")
        page.get_by_title("Explain “ring”").click()
        apps.settled(page)
        url = page.url
    with apps.visit(browser, url) as page:
        assert page.get_by_text("integrated_gradients · why “ring”").is_visible()
        assert page.get_by_title("Explain “ring”").get_attribute("aria-pressed") == "true"
