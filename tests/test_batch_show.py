"""Contact sheets: what a tile shows, what it says, and what it says where the original is not there."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from sightline.batch import sheet
from sightline.batch.querying import asking, statement
from sightline.batch.sheet import COLUMNS, Shown, contact_sheet, drawn, name_of, rows_of, style_of
from sightline.batch.sources.reach import uri_of
from sightline.batch.unchanged import original_bytes, unchanged_picture, unchanged_series
from sightline.cli.main import app
from sightline.demo.mnist1d import mnist1d_signal
from sightline.errors import InputError
from sightline.render.palette import EMPTY
from stores import explained, row, scenes, stored

CORNER = [[1, 0], [0, 0]]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    at = tmp_path_factory.mktemp("real")
    explained(scenes(at / "scenes"), at / "store", methods=("grad_cam", "gradient"))
    return at


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that are drawn."""
    found: list[str] = []
    real_block = sheet.text_block

    def block(text: str, **look: Any) -> Any:
        found.append(text)
        return real_block(text, **look)

    monkeypatch.setattr(sheet, "text_block", block)
    return found


def rows(store: Any, condition: str | None = None) -> list[Shown]:
    with asking(store) as asked:
        return list(rows_of(asked.table(statement(COLUMNS, condition, "image")), asked.store.settings.heatmap))


def show(*words: Any) -> tuple[int, str]:
    found = CliRunner().invoke(app, ["show", *map(str, words)])
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found.exit_code, found.stdout


def test_a_tile_is_the_original_with_its_own_heatmap(real: Path) -> None:
    shown = rows(real / "store", "method = 'grad_cam'")[1]
    picture = np.asarray(drawn(shown, "overlay"), float)
    original = unchanged_picture(shown.row["image"]).astype(float)
    assert picture.shape == original.shape == (96, 96, 3)
    assert shown.heatmap is not None
    alone = np.asarray(drawn(shown, "heatmap"), float).sum(2)
    hot = np.asarray(Image.fromarray(shown.heatmap).resize((96, 96), Image.Resampling.BILINEAR))
    assert np.corrcoef(alone.ravel(), hot.ravel())[0, 1] > 0.9
    assert np.corrcoef(picture.sum(2).ravel(), original.sum(2).ravel())[0, 1] > 0.4


def test_one_original_is_not_shown_with_the_heatmap_of_another(real: Path) -> None:
    pictures = [np.asarray(drawn(s, "overlay")) for s in rows(real / "store", "method = 'grad_cam'")]
    assert len({p.tobytes() for p in pictures}) == 4


def test_the_sheet_has_a_tile_for_each_row_and_says_what_is_what(real: Path, said: list[str]) -> None:
    ticks: list[int] = []
    shown = rows(real / "store")
    picture = contact_sheet(shown, title="all", subtitle="8 rows", columns=4, tick=ticks.append)
    assert sum(ticks) == len(shown) == 8
    assert picture.width > 4 * sheet.TILE
    assert {"all", "8 rows", "scene0.png", "scene3.png", "grad_cam", "gradient"} <= set(said)
    best = shown[0].row["prediction_label"]
    assert any(text.startswith(f"{best} (") for text in said)
    assert not any("demo/honest" in text for text in said)  # there is one model


def test_a_single_method_is_not_said_on_every_tile(real: Path, said: list[str]) -> None:
    contact_sheet(rows(real / "store", "method = 'gradient'"), title="t")
    assert "gradient" not in said


def test_another_target_than_the_prediction_is_said(tmp_path: Path, said: list[str]) -> None:
    words = {"prediction_label": "dog", "probability": 0.999, "target_label": "cat", "width": 2, "height": 2}
    contact_sheet(rows(stored(tmp_path / "s", [row("a.png", CORNER, **words)])), title="t", draw="heatmap")
    assert "dog (>0.99) · why “cat”?" in said


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path: Path, said: list[str]) -> None:
    store = stored(tmp_path / "s", [row("/a/one.png", CORNER), row("/b/one.png", CORNER)])
    contact_sheet(rows(store), title="t", draw="heatmap")
    assert {"a/one.png", "b/one.png"} <= set(said)


def test_a_long_name_loses_its_middle() -> None:
    name = sheet._shortened("imagenet_000_n01440764_with_a_long_name_tench.JPEG")
    assert name.startswith("imagenet")
    assert name.endswith("tench.JPEG")
    assert "…" in name


def test_an_original_that_is_gone_or_changed_is_said_and_never_replaced(
    real: Path, tmp_path: Path, said: list[str]
) -> None:
    explained(scenes(tmp_path / "scenes", 3), tmp_path / "store")
    (tmp_path / "scenes" / "scene0.png").unlink()
    (tmp_path / "scenes" / "scene1.png").write_bytes((tmp_path / "scenes" / "scene2.png").read_bytes())
    shown = rows(tmp_path / "store")
    with pytest.raises(InputError, match=r"^original not found: "):
        drawn(shown[0], "overlay")
    with pytest.raises(InputError, match=r"^original changed: "):
        drawn(shown[1], "overlay")
    contact_sheet(shown, title="t")
    assert {"original not found", "original changed"} <= set(said)
    said.clear()
    contact_sheet(shown, title="t", draw="heatmap")  # which needs no original
    assert not {"original not found", "original changed"} & set(said)


def test_the_tile_of_a_lost_original_is_the_heatmap_alone_on_grey(tmp_path: Path) -> None:
    lost = rows(stored(tmp_path / "s", [row("gone.png", CORNER, width=100, height=50)]))[0]
    tile = np.asarray(sheet._tile(lost, "overlay", []))[: sheet.TILE]
    assert tuple(tile[-5, 5]) == EMPTY
    alone = np.asarray(drawn(lost, "heatmap", sheet.TILE))
    assert alone.shape == (100, 200, 3)
    bright = np.argwhere(tile.astype(int).sum(2) < 200)  # inferno's dark end, which grey and words have not
    assert len(bright) > 500


def test_a_row_with_an_error_says_it(tmp_path: Path, said: list[str]) -> None:
    failed = row("/far/away/bad.jpg", None, error="/far/away/bad.jpg is a damaged image; get it again.")
    contact_sheet(rows(stored(tmp_path / "s", [failed])), title="t")
    assert "bad.jpg is a damaged image; get it again." in said
    assert "grad_cam, top1" in said


def test_what_the_model_never_saw_is_hatched(tmp_path: Path) -> None:
    file = scenes(tmp_path, 1) / "scene0.png"
    seen = np.ones((8, 8))
    seen[:, :4] = np.nan
    shown = Shown({"image": str(file), "image_hash": None, "method": "grad_cam", "layer": "x"}, seen.astype(np.float32))
    picture = np.asarray(drawn(shown, "overlay")).astype(int)
    assert np.ptp(picture[:, :40, 0]) > np.ptp(picture[:, 60:, 0])
    assert np.abs(np.diff(picture[:, :40, 0], axis=1)).mean() > 2 * np.abs(np.diff(picture[:, 60:, 0], axis=1)).mean()


def test_members_of_shards_are_read(tmp_path: Path) -> None:
    data = (scenes(tmp_path, 1) / "scene0.png").read_bytes()
    with tarfile.open(tmp_path / "shard.tar", "w") as shard:
        member = tarfile.TarInfo("a/one.png")
        member.size = len(data)
        shard.addfile(member, io.BytesIO(data))
    uri = f"{tmp_path / 'shard.tar'}#a/one.png"
    assert original_bytes(uri) == data
    assert unchanged_picture(uri).shape == (96, 96, 3)
    with pytest.raises(InputError, match="not found"):
        original_bytes(f"{tmp_path / 'shard.tar'}#a/two.png")


def test_a_name_with_a_hash_sign_is_a_file_where_there_is_one(tmp_path: Path) -> None:
    (tmp_path / "a#b.png").write_bytes(b"data")
    assert original_bytes(str(tmp_path / "a#b.png")) == b"data"


def test_a_path_that_is_no_text_is_read(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"a \xff#%.png")
    path.write_bytes(b"data")
    assert original_bytes(uri_of(str(path))) == b"data"


def test_urls_are_read() -> None:
    import fsspec

    fsspec.filesystem("memory").pipe_file("/show-test/x", b"data")
    assert original_bytes("memory://show-test/x") == b"data"
    with pytest.raises(InputError, match="not found"):
        original_bytes("memory://show-test/y")


def test_a_series_is_drawn_as_a_line(tmp_path: Path, said: list[str]) -> None:
    (tmp_path / "series").mkdir()
    for digit in range(2):
        np.save(tmp_path / "series" / f"{digit}.npy", np.asarray(mnist1d_signal(digit, 0)[0]))
    explained(tmp_path / "series", tmp_path / "store", "demo/mnist1d", ("gradient",))
    (tmp_path / "series" / "1.npy").unlink()
    shown = rows(tmp_path / "store")
    assert shown[0].heatmap is not None
    assert shown[0].heatmap.shape == (64,)
    assert unchanged_series(shown[0].row["image"], shown[0].row["image_hash"]).shape == (1, 40)
    assert len(np.unique(np.asarray(drawn(shown[0], "overlay")).reshape(-1, 3), axis=0)) > 20
    assert drawn(shown[1], "heatmap").width > 100
    contact_sheet(shown, title="t")
    assert "original not found" in said


def test_colours_are_those_of_the_method() -> None:
    assert style_of("grad_cam", None) == "sequential"
    assert style_of("integrated_gradients", None) == "diverging"
    assert style_of("of_another_version", np.array([-1.0, 1.0])) == "diverging"
    assert style_of("of_another_version", np.array([0.0, 1.0])) == "sequential"


def test_names_are_the_last_parts() -> None:
    assert name_of("s3://bucket/a/one.png") == "one.png"
    assert name_of("C:\\a\\one.png") == "one.png"


def test_the_command_writes_the_sheet_that_was_asked_for(real: Path, tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    code, text = show(real / "store", "where method = 'gradient'", "--limit", 2, "--columns", 1, "--out", out)
    assert code == 0
    assert "2 of 4 rows" in text
    high, wide, _ = unchanged_picture(str(out)).shape
    assert high > wide
    assert [p.name for p in tmp_path.iterdir()] == ["sheet.png"]


def test_rows_are_shown_in_the_order_that_was_asked_for(real: Path, tmp_path: Path) -> None:
    code, text = show(real / "store", "--order", "image DESC, method", "--json", "--out", tmp_path / "s.png")
    found = json.loads(text)
    assert code == 0
    assert found["count"] == 8
    names = [name_of(r["image"]) for r in found["rows"]]
    assert names == sorted(names, reverse=True)


def test_nothing_to_show_is_an_error_and_writes_nothing(real: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no rows where probability > 2"):
        show(real / "store", "probability > 2", "--out", tmp_path / "s.png")
    assert not list(tmp_path.iterdir())
