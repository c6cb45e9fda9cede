"""Reports in the app: found below one folder and nowhere else, browsed in a browser, and never a traceback."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import apps
import browsed
import pages
from apps import expect
from sightline.app.parts.gallery import filtered
from sightline.app.parts.words import as_text
from sightline.app.reports import find_picture, search
from sightline.app.settings import Settings
from sightline.evaluation.mistakes.reading import SavedAnswer
from sightline.training.history import write_history
from trainings import epochs

EVIL = '<img src="http://example.com/x.png"> ![x](http://example.com/y.png) $z$'


# --- without a browser --------------------------------------------------------------------------------------


def report(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "errors.json").write_text("{}")
    return folder


def test_reports_are_told_by_the_files_that_are_written(tmp_path: Path) -> None:
    report(tmp_path / "a" / "mistakes")
    browsed.begin(tmp_path / "run")
    (tmp_path / "trust" / "parts").mkdir(parents=True)
    (tmp_path / "trust" / "run.json").write_text("{}")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "run.json").write_text('{"scripts": {}}')
    found = search(tmp_path)
    assert {r.name: r.kind for r in found.reports} == {"a/mistakes": "errors", "run": "training", "trust": "evaluation"}
    assert [*found.of("training")] == ["run"]


def test_hidden_folders_environments_and_links_are_not_searched(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for name in (".git/x", "venv/x", "env-of-mine/x", "node_modules/x"):
        report(root / name)
    (root / "env-of-mine" / "pyvenv.cfg").touch()
    os.symlink(report(tmp_path / "outside"), root / "link")
    assert search(root).reports == ()


def test_the_search_is_bounded_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report(tmp_path / "1/2/3/4/5/6")
    report(tmp_path / "1/2/3/4/5/6/7")
    assert [r.name for r in search(tmp_path).reports] == ["1/2/3/4/5/6"]
    monkeypatch.setattr("sightline.app.reports._FOLDERS", 3)
    found = search(tmp_path)
    assert len(found.folders) == 3
    assert found.remarks == (
        "Only the first 3 folders were searched; start the app with --reports DIR nearer to the reports.",
    )


def test_a_folder_that_cannot_be_looked_at_is_a_sentence(tmp_path: Path) -> None:
    found = search(tmp_path / "gone")
    assert found.reports == ()
    assert found.remarks == ("gone cannot be looked at: no such file or directory.",)


def test_a_picture_is_found_below_the_folder_only(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for file in (root / "photos" / "cat" / "a.png", root / "photos" / ".b.png", tmp_path / "c.png"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    os.symlink(tmp_path / "c.png", root / "photos" / "c.png")
    found = search(root)
    assert find_picture(found, "photos", "cat/a.png") == (root / "photos" / "cat" / "a.png").resolve()
    for file in ("../../c.png", str(tmp_path / "c.png"), "c.png", ".b.png", "d.png", "cat", "cat/\0.png"):
        assert find_picture(found, "photos", file) is None, file


def test_errors_are_filtered_and_sorted() -> None:
    made = [SavedAnswer(f, t, p, s, 0.1, 2, False) for f, t, p, s in (("b", "x", "y", 0.9), ("a", "y", "x", 0.5))]
    assert filtered(made, None, None, "surest first", "") == made
    assert filtered(made, None, None, "least sure first", "") == made[::-1]
    assert filtered(made, None, None, "by file", "") == made[::-1]
    assert filtered(made, "x", None, "surest first", "") == made[:1]
    assert filtered(made, None, "x", "surest first", " A ") == made[1:]
    assert filtered(made, "x", "x", "surest first", "") == []


def test_words_of_others_are_shown_as_they_are() -> None:
    assert as_text("a*b\n[c](d) :red[e]") == r"a\*b \[c\]\(d\) \:red\[e\]"


# --- in a browser -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("reports")
    browsed.mistakes(found), browsed.trust(found)
    browsed.trained(found, "first")
    shutil.copytree(browsed.trained(found, "second", lr=0.1), found / "cut")
    (found / "cut" / "run.json").write_text('{"settings": ')
    evil(found / "mistakes", found / "evil")
    return found


def evil(source: Path, folder: Path) -> None:
    """Write a report of 10,000 errors whose classes and files are named by somebody who means harm."""
    shutil.copytree(source, folder)
    said = json.loads((folder / "errors.json").read_text())
    said["confusions"] = [{"true": EVIL, "predicted": "star", "count": 10_000}]
    said["findings"], said["worst"] = [EVIL], []
    (folder / "errors.json").write_text(json.dumps(said))
    first = {"true": EVIL, "predicted": "star", "probability": 0.5, "true_probability": 0.1, "rank": 2}
    rows = [first | {"file": f"../../{EVIL}-{n}.png", "correct": False} for n in range(10_000)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "predictions.parquet")


@pytest.fixture(scope="module")
def address(root: Path) -> Iterator[str]:
    with apps.served(Settings(reports=str(root))) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with pages.started() as found:
        yield found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "query"),
    [("errors", "errors?report=mistakes"), ("trust", "errors?report=trust"), ("trainings", "trainings")],
)
def test_pages_are_seen_on_a_phone(browser: Any, address: str, name: str, query: str) -> None:
    with apps.visit(browser, f"{address}/{query}", 390, "dark") as page:
        is_seen(page, name)


def is_seen(page: Any, name: str) -> None:
    assert page.get_by_test_id("stException").count() == 0
    apps.pictures(page, name)


@pytest.mark.slow
def test_an_error_is_filtered_opened_and_explained(browser: Any, address: str) -> None:
    with apps.visit(browser, f"{address}/errors?report=mistakes") as page:
        expect(page.get_by_text("It is ").first).to_be_visible()
        is_seen(page, "errors")
        page.get_by_role("button", name=re.compile("cross → star")).first.click()
        apps.settled(page)
        assert "error_true=cross" in page.url
        names = page.get_by_role("button", name="Look closer").count()
        assert names == page.get_by_alt_text(re.compile("cross, taken for star")).count() > 0
        page.get_by_role("button", name="Look closer").first.click()
        apps.settled(page)
        expect(page.get_by_role("dialog").get_by_text("cross, taken for star")).to_be_visible()
        assert "error=cross%2Fcross-" in page.url
        page.get_by_role("button", name="Explain this picture").click()
        page.get_by_text(re.compile("grad_cam · why “star”")).wait_for()
        assert "model=demo%2Fcheating" in page.url


@pytest.mark.slow
def test_the_url_names_a_report_and_nothing_else(browser: Any, address: str) -> None:
    with apps.visit(browser, f"{address}/errors?report=../../etc&error_page=99&error_true=zzz") as page:
        expect(page.get_by_text("There is no report “../../etc” below this folder.")).to_be_visible()
        assert page.get_by_test_id("stException").count() == 0


@pytest.mark.slow
def test_names_that_mean_harm_are_words(browser: Any, address: str) -> None:
    with apps.visit(
        browser, f"{address}/errors?report=evil"
    ) as page:  # no request leaves the machine: visit sees to it
        expect(page.get_by_text("10,000 of 10,000 errors")).to_be_visible()
        expect(page.get_by_text('<img src="http://example.com/x.png">').first).to_be_visible()
        page.get_by_role("button", name="Look closer").nth(3).click()
        apps.settled(page)
        expect(page.get_by_role("dialog")).to_be_visible()
        assert page.get_by_role("button", name="Explain this picture").count() == 0


@pytest.mark.slow
def test_an_evaluation_shows_controls_curves_and_its_own_page(browser: Any, address: str) -> None:
    with apps.visit(browser, f"{address}/errors?report=trust") as page:
        is_seen(page, "trust")
        expect(page.get_by_text("an edge detector").first).to_be_visible()
        expect(page.get_by_text("demo/cheating decides by the watermark")).to_be_visible()
        page.get_by_text("Show it here").click()
        apps.settled(page)
        frame = page.locator("iframe")
        expect(frame).to_have_attribute("sandbox", "")
        frame.content_frame.get_by_role("heading", name="Ranking").wait_for()


@pytest.mark.slow
def test_runs_lie_over_one_another_and_what_differs_is_marked(browser: Any, address: str) -> None:
    with apps.visit(browser, f"{address}/trainings?runs=first&runs=second&run=first") as page:
        is_seen(page, "trainings")
        expect(page.get_by_text(re.compile(r"cut: cut/run.json cannot be read as JSON"))).to_be_visible()
        page.get_by_text("Settings of the first two: 1 differ").click()
        expect(page.get_by_role("row", name=re.compile("≠ lr 0.001 0.1"))).to_be_visible()
        expect(page.get_by_text("sightline explain PHOTO --model first")).to_be_visible()
        expect(page.get_by_text("2 images are in both parts.")).to_be_visible()


@pytest.mark.slow
def test_a_training_that_runs_is_followed(browser: Any, address: str, root: Path) -> None:
    out = browsed.begin(root / "live")
    write_history(epochs(2), out / "history.csv")
    with apps.visit(browser, f"{address}/trainings?run=live") as page:
        if not page.get_by_text("It is running; the list above follows it.").count():  # the folder is searched again
            page.wait_for_timeout(10_500)
            page.goto(f"{address}/trainings?run=live")  # the address forgot what was not found yet
            apps.settled(page)
        page.get_by_text("It is running; the list above follows it.").wait_for()
        expect(page.get_by_text("running: live; this list follows.")).to_be_visible()
        write_history(epochs(3), out / "history.csv")
        page.get_by_text("running, 3 of 6 epochs done").first.wait_for(state="attached")
    shutil.rmtree(out)


@pytest.mark.slow
def test_without_reports_the_page_says_how_to_make_one(browser: Any, tmp_path: Path) -> None:
    with apps.served(Settings(reports=str(tmp_path))) as address, apps.visit(browser, f"{address}/errors") as page:
        expect(page.get_by_text("sightline errors PHOTOS --model resnet50 --out mistakes")).to_be_visible()
        page.get_by_role("link", name="Training runs").click()
        apps.settled(page)
        expect(page.get_by_text("sightline train PHOTOS --model mobilenet_v2 --out run")).to_be_visible()
