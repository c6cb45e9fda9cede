"""A folder of pictures as a data set: which layouts are known, how it is split, what is said of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from drawn import picture, pictures
from sightline.training.data import DataSet
from sightline.training.folders import read_folder

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "hmt"


def names(data: DataSet) -> dict[str, set[str]]:
    root = Path(data.folder or "")
    return {name: {Path(f).relative_to(root).as_posix() for f in part.images} for name, part in data.parts.items()}


def said(data: DataSet, words: str) -> str:
    found = [n for n in data.notes if words in n]
    assert len(found) == 1, data.notes
    return found[0]


# --- layouts ------------------------------------------------------------------------------------------------


def test_class_folders_are_split_with_every_image_in_one_part_and_the_shares_kept(tmp_path: Path) -> None:
    data = read_folder(pictures(tmp_path, {"dog": 20, "cat": 10, "cow": 2}))
    assert data.classes == ("cat", "cow", "dog")
    assert data.train.counts(3) == [8, 1, 16]
    assert data.val.counts(3) == [2, 1, 4]
    parts = names(data)
    assert not parts["train"] & parts["val"]
    assert len(parts["train"] | parts["val"]) == 32
    assert data.split == "20 % of each class held out for validation by seed 0 (25 and 7 images). Classes by folders."


def test_labels_are_those_of_the_images(tmp_path: Path) -> None:
    data = read_folder(pictures(tmp_path, {"dog": 5, "cat": 5}))
    for part in data.parts.values():
        for file, label in zip(part.images, part.labels, strict=True):
            assert Path(file).parent.name == data.classes[label]
    assert part.labels.dtype == np.int64


def test_folders_inside_a_class_belong_to_it_and_hidden_ones_to_none(tmp_path: Path) -> None:
    pictures(tmp_path, {"cat/kitten/young": 3, "cat": 3, "dog": 6, ".cache": 2, "dog/.thumbs": 2, "__MACOSX": 1})
    data = read_folder(tmp_path)
    assert data.classes == ("cat", "dog")
    assert len(data.train) + len(data.val) == 12
    assert data.notes[:-1] == ()


@pytest.mark.parametrize("val", ["val", "Validation", "VALID"])
def test_train_and_val_are_taken_as_they_came(tmp_path: Path, val: str) -> None:
    pictures(tmp_path, {"train/cat": 4, "train/dog": 1, f"{val}/cat": 2, f"{val}/dog": 1, "test/cat": 3})
    data = read_folder(tmp_path)
    assert {k: len(v) for k, v in data.parts.items()} == {"train": 5, "val": 3, "test": 3}
    assert all(f.startswith(f"{val}/") for f in names(data)["val"])
    assert data.split == f"train/ and {val}/ as they came; test/ is the test, as it came. Classes by folders."
    assert said(data, "'dog'").startswith("The test has no images of 'dog'")


def test_without_val_a_part_of_train_is_held_out(tmp_path: Path) -> None:
    pictures(tmp_path, {"train/cat": 10, "train/dog": 10, "test/cat": 3, "test/dog": 3})
    data = read_folder(tmp_path, val_share=0.3, seed=5)
    assert {k: v.counts(2) for k, v in data.parts.items()} == {"train": [7, 7], "val": [3, 3], "test": [3, 3]}
    assert "30 % of each class of train/ held out for validation by seed 5 (14 and 6 images)" in data.split


@pytest.mark.parametrize("pattern", ["{}.{}.png", "{}_{}.png", "{}-{}.png"])
@pytest.mark.parametrize("at", ["", "train"])
def test_file_names_tell_the_classes(tmp_path: Path, pattern: str, at: str) -> None:
    for name in ("cat", "maine_coon"):
        for n in range(10):
            picture(tmp_path / at / pattern.format(name, n))
    (tmp_path / at / "sizes.csv").write_text("a,b")
    data = read_folder(tmp_path)
    assert data.classes == ("cat", "maine_coon")
    assert data.val.counts(2) == [2, 2]
    assert data.split.endswith("Classes by file names.")
    assert "1 file was left out, as " in said(data, "sizes.csv")


def test_a_competition_s_test_without_classes_is_left_out(tmp_path: Path) -> None:
    for n in range(4):
        picture(tmp_path / "train" / f"cat.{n}.jpg")
        picture(tmp_path / "train" / f"dog.{n}.jpg")
        picture(tmp_path / "test1" / f"{n}.jpg")
    data = read_folder(tmp_path)
    assert data.test is None
    assert said(data, "'test1'") == "'test1' holds no images whose class is known: it was left out."


def test_files_beside_class_folders_are_left_out_and_said(tmp_path: Path) -> None:
    pictures(tmp_path, {"cat": 4, "dog": 4})
    picture(tmp_path / "cat.7.png")
    (tmp_path / "dog" / "notes.txt").write_text("x")
    data = read_folder(tmp_path)
    assert len(data.train) + len(data.val) == 8
    assert "2 files were left out, as " in said(data, "left out")


def test_links_are_followed_once_and_never_in_a_circle(tmp_path: Path) -> None:
    root = pictures(tmp_path / "data", {"cat": 4, "dog": 4})
    pictures(tmp_path / "far", {"cow": 4})
    (root / "cow").symlink_to(tmp_path / "far" / "cow")
    (root / "kitty").symlink_to(root / "cat")
    (root / "dog" / "again").symlink_to(tmp_path)
    (root / "cat" / "more").symlink_to(tmp_path / "far")
    data = read_folder(root)
    assert data.classes == ("cat", "cow", "dog")
    assert len(data.train) + len(data.val) == 12
    assert said(data, "'cow' is a link").endswith("whose images were read.")
    assert "holds or belongs to these data" in said(data, "'kitty'")
    assert "holds or belongs to these data" in said(data, "'dog/again'")
    assert "links inside a class are not followed" in said(data, "'cat/more'")


def test_classes_stand_in_the_order_of_text(tmp_path: Path) -> None:
    data = read_folder(pictures(tmp_path, {"1": 2, "2": 2, "10": 2}))
    assert data.classes == ("1", "10", "2")
    assert "(1, 10, 2, ...)" in said(data, "order of text")


# --- the split ----------------------------------------------------------------------------------------------


def test_the_seed_alone_decides(tmp_path: Path) -> None:
    counts = {"cat": 30, "dog": 30}
    one = read_folder(pictures(tmp_path / "one" / "data", counts))
    two = tmp_path / "two" / "data"
    for name in reversed(counts):
        for n in reversed(range(counts[name])):
            picture(two / name / f"{n}.png", f"{name}{n}")
    again = read_folder(two)
    assert names(again) == names(one)
    assert again.hash == one.hash
    other = read_folder(two, seed=1)
    assert names(other)["val"] != names(one)["val"]
    assert other.hash != one.hash


def test_an_unreadable_file_changes_nothing_else(tmp_path: Path) -> None:
    root = pictures(tmp_path, {"cat": 10, "dog": 10})
    before = read_folder(root)
    whole = (root / "cat" / "0.png").read_bytes()
    (root / "cat" / "broken\n.png").write_bytes(whole[:40])
    (root / "dog" / "0a.jpg").write_bytes(b"")
    (root / "dog" / "gone.jpg").symlink_to(root / "nowhere.jpg")
    after = read_folder(root)
    assert after.hash == before.hash
    assert names(after) == names(before)
    assert [Path(s["image"]).name for s in after.skipped] == ["broken\n.png", "0a.jpg", "gone.jpg"]
    assert all("\n" not in s["reason"] and s["reason"].endswith((".", "?")) for s in after.skipped)


def test_one_more_image_moves_no_other_to_the_other_side(tmp_path: Path) -> None:
    root = pictures(tmp_path, {"cat": 10, "dog": 10})
    before = names(read_folder(root))
    picture(root / "cat" / "new.png")
    after = names(read_folder(root))
    assert len((before["val"] ^ after["val"]) - {"cat/new.png"}) <= 1


@pytest.mark.parametrize("share", [0.001, 0.25, 0.5, 0.999])
def test_each_class_is_learned_and_checked_at_any_share(tmp_path: Path, share: float) -> None:
    data = read_folder(pictures(tmp_path, {"cat": 2, "dog": 9}), val_share=share)
    for label, count in enumerate((2, 9)):
        held = data.val.counts(2)[label]
        assert 1 <= held <= count - 1
        assert abs(held - share * count) <= 1


def test_copies_stay_on_one_side(tmp_path: Path) -> None:
    root = pictures(tmp_path, {"cat": 6, "dog": 6})
    for n in range(6):
        for copy in "ab":
            (root / "cat" / f"{copy}{n}.png").write_bytes((root / "cat" / f"{n}.png").read_bytes())
    for seed in range(8):
        data = read_folder(root, seed=seed)
        hashes = {name: {(data.hashes or {})[f] for f in part.images} for name, part in data.parts.items()}
        assert not hashes["train"] & hashes["val"]
        assert data.val.counts(2)[0] == 3  # of 18 one group of three fits into a share of four
        assert not [n for n in data.notes if "also in" in n]
    assert said(data, "of train are copies").startswith("10 images of train are copies of another there, as 'cat/a")


# --- what is said -------------------------------------------------------------------------------------------


def test_a_picture_in_two_parts_is_a_leak(tmp_path: Path) -> None:
    root = pictures(tmp_path, {f"{part}/{name}": 3 for part in ("train", "val", "test") for name in ("cat", "dog")})
    (root / "val" / "cat" / "0.png").write_bytes((root / "train" / "cat" / "2.png").read_bytes())
    (root / "test" / "dog" / "1.png").write_bytes((root / "val" / "dog" / "0.png").read_bytes())
    data = read_folder(root)
    assert said(data, "of val").startswith("1 image of val is also in train ('val/cat/0.png' is 'train/cat/2.png')")
    assert "('test/dog/1.png' is 'val/dog/0.png')" in said(data, "of test")


def test_a_picture_in_two_classes_is_a_contradiction_and_is_not_checked_by(tmp_path: Path) -> None:
    root = pictures(tmp_path, {"cat": 3, "dog": 3})
    (root / "dog" / "0.png").write_bytes((root / "cat" / "1.png").read_bytes())
    for seed in range(5):
        data = read_folder(root, seed=seed)
        assert {"dog/0.png", "cat/1.png"} <= names(data)["train"]
    assert "('cat/1.png' as cat, 'dog/0.png' as dog)" in said(data, "more than one class")
    assert not [n for n in data.notes if "cop" in n]


def test_how_images_are_stored_is_said(tmp_path: Path) -> None:
    root = pictures(tmp_path, {"cat": 4, "dog": 4})
    picture(root / "cat" / "g.png", mode="L")
    picture(root / "cat" / "a.png", mode="RGBA")
    Image.fromarray(np.arange(30, dtype=np.uint16).reshape(5, 6) * 2000).save(root / "dog" / "d.png")
    np.save(root / "dog" / "array.npy", np.zeros((4, 4, 3), np.uint8))
    note = said(read_folder(root), "all are read as RGB")
    assert note.startswith("Of 12 images 2 are grey, 1 has transparency (it lies on white), 1 has over 8 bits")
    assert "9 are in colour" in said(read_folder(root, channels=1), "all are read as grey")


def test_few_and_unbalanced_images_are_said(tmp_path: Path) -> None:
    data = read_folder(pictures(tmp_path, {"cat": 50, "dog": 5}))
    assert "'cat' has 10 times as many images to learn from as 'dog' (40 and 4)" in said(data, "unbalanced")
    assert said(data, "validation image").startswith("There are 11 validation images: one of them is 9.1 points")


def test_progress_is_told_and_an_interruption_opens_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sightline.training import pictures as module

    opened: list[str] = []
    read: Callable[..., object] = module.read_image

    def counting(file: str, **options: int) -> object:
        opened.append(file)
        return read(file, **options)

    monkeypatch.setattr(module, "read_image", counting)
    root = pictures(tmp_path, {"cat": 150, "dog": 150})
    counted: list[int] = []
    steps: list[int] = []
    read_folder(root, on_count=counted.append, on_step=steps.append)
    assert (counted, sum(steps), len(opened)) == ([300], 300, 300)
    opened.clear()

    def interrupt(images: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_folder(root, on_step=interrupt)
    assert len(opened) < 300


@pytest.mark.shared
@pytest.mark.skipif(not DATA.is_dir(), reason="the histology tiles are not here")
def test_histology_tiles_are_read_whole() -> None:
    data = read_folder(DATA)
    assert len(data.classes) == 8
    assert {k: v.counts(8) for k, v in data.parts.items()} == {"train": [88] * 8, "val": [22] * 8, "test": [62] * 8}
    assert (data.skipped, data.notes) == ((), ())
