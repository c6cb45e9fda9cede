"""What cannot be learned from: one sentence each, with what came, what was wanted and what to do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from drawn import picture, pictures
from sightline.errors import ImageError, InputError, ParameterError
from sightline.training.folders import read_folder


def refusal(folder: Path, **options: float) -> str:
    with pytest.raises(InputError) as caught:
        read_folder(folder, **options)  # type: ignore[arg-type]
    text = str(caught.value)
    assert "\n" not in text
    assert "\x1b" not in text
    assert text.endswith((".", "?"))
    return text


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    pictures(tmp_path / "pets", {"cat": 2})
    assert "does not exist. Did you mean pets?" in refusal(tmp_path / "petz")
    assert "is a file; wanted a folder" in refusal(tmp_path / "pets" / "cat" / "0.png")
    with pytest.raises(InputError, match="an empty path came"):
        read_folder("")
    os.mkfifo(tmp_path / "pipe")
    assert "is no folder" in refusal(tmp_path / "pipe")


@pytest.mark.parametrize("inside", [(), ("cat", "dog"), ("train/cat", "train/dog", "val")])
def test_a_folder_without_images(tmp_path: Path, inside: tuple[str, ...]) -> None:
    for name in inside:
        (tmp_path / name).mkdir(parents=True)
    assert "holds no images, nor do the folders in it; wanted a folder of images for each class" in refusal(tmp_path)


def test_one_class(tmp_path: Path) -> None:
    pictures(tmp_path / "a", {"cat": 4})
    assert "holds one class, 'cat'; wanted at least two" in refusal(tmp_path / "a")
    pictures(tmp_path / "b", {"PetImages/Cat": 4, "PetImages/Dog": 4})
    text = refusal(tmp_path / "b")
    assert text.endswith(f"if 'Cat', 'Dog' in it are the classes, give {tmp_path / 'b' / 'PetImages'}.")
    picture(tmp_path / "c" / "IMG_0001.png")
    picture(tmp_path / "c" / "IMG_0002.png")
    assert "one class, 'IMG'" in refusal(tmp_path / "c")


def test_flat_files_without_classes(tmp_path: Path) -> None:
    picture(tmp_path / "holiday.png")
    assert "holds 1 image, as holiday.png, and nothing says their classes" in refusal(tmp_path)


def test_an_empty_class_is_named(tmp_path: Path) -> None:
    pictures(tmp_path, {"cat": 2, "dog": 2})
    (tmp_path / "cow").mkdir()
    assert f"{tmp_path / 'cow'} is a class folder without images" in refusal(tmp_path)


def test_a_class_without_readable_images_is_named_with_the_reason(tmp_path: Path) -> None:
    pictures(tmp_path, {"cat": 2, "dog": 2})
    for n in range(2):
        (tmp_path / "dog" / f"{n}.png").write_bytes(b"no picture")
    text = refusal(tmp_path)
    assert "the class 'dog' has 2 images and none can be read" in text
    assert "0.png is not an image" in text


def test_a_class_that_cannot_be_both_learned_and_checked(tmp_path: Path) -> None:
    pictures(tmp_path, {"cat": 4, "dog": 1})
    assert "the class 'dog' has 1 image; wanted at least two different ones" in refusal(tmp_path)
    (tmp_path / "dog" / "copy.png").write_bytes((tmp_path / "dog" / "0.png").read_bytes())
    assert "has 2 images, which are copies of one ('dog/0.png')" in refusal(tmp_path)
    for n in range(2):
        (tmp_path / "dog" / f"c{n}.png").write_bytes((tmp_path / "cat" / f"{n}.png").read_bytes())
    (tmp_path / "dog" / "0.png").unlink()
    (tmp_path / "dog" / "copy.png").unlink()
    assert "the class 'dog' has 2 images, and each is also in another class" in refusal(tmp_path)


def test_classes_that_the_parts_do_not_share(tmp_path: Path) -> None:
    whole = {"train/cat": 2, "train/dog": 2, "val/cat": 2}
    assert "val holds no images of the class 'dog'" in refusal(pictures(tmp_path / "a", whole))
    pictures(tmp_path / "b", whole | {"val/dog": 2, "val/dogs": 1})
    assert "val holds the class 'dogs', which" in refusal(tmp_path / "b")
    assert refusal(tmp_path / "b").endswith("Did you mean dog?")
    pictures(tmp_path / "c", whole | {"val/dog": 2, "test/cow": 1})
    assert "test holds the class 'cow', which" in refusal(tmp_path / "c")
    pictures(tmp_path / "d", whole)
    (tmp_path / "d" / "val" / "dog").mkdir()
    assert "dog is a class folder without images" in refusal(tmp_path / "d")


@pytest.mark.parametrize("names", [("Cat", "cat"), ("cat", "cat "), ("caf\u00e9", "cafe\u0301")])
def test_names_that_clash(tmp_path: Path, names: tuple[str, str]) -> None:
    root = pictures(tmp_path, dict.fromkeys(names, 2) | {"dog": 2})
    if len({p.name for p in root.iterdir()}) < 3:
        pytest.skip("this file system takes the two names for one")
    text = refusal(root)
    assert "clash: their names differ only in case, spaces at the ends or the encoding of letters" in text
    assert all(ascii(n) in text for n in names)


def test_names_that_clash_between_parts_and_between_files(tmp_path: Path) -> None:
    pictures(tmp_path / "a", {"train/Cat": 2, "train/dog": 2, "val/cat": 2, "val/dog": 2})
    assert "the classes 'Cat' and 'cat' clash" in refusal(tmp_path / "a")
    for name in ("Cat.0", "cat.1", "dog.2"):
        picture(tmp_path / "b" / f"{name}.png")
    assert "the classes 'Cat' and 'cat' clash" in refusal(tmp_path / "b")


def test_parts_beside_classes_are_ambiguous(tmp_path: Path) -> None:
    pictures(tmp_path / "a", {"train/cat": 2, "train/dog": 2, "plane": 2})
    assert "holds 'train' beside other folders with images ('plane')" in refusal(tmp_path / "a")
    pictures(tmp_path / "b", {"val/cat": 2, "val/dog": 2})
    assert "holds 'val' but no train/" in refusal(tmp_path / "b")
    pictures(tmp_path / "c", {"train/cat": 2, "train/dog": 2, "val/cat": 2, "valid/cat": 1})
    assert "holds 'val', 'valid', both for val by their names" in refusal(tmp_path / "c")


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, float("nan"), True, "half"])
def test_a_share_outside_0_to_1(tmp_path: Path, share: float) -> None:
    with pytest.raises(ParameterError, match=r"val_share=.*above 0 and below 1, as 0.2\."):
        read_folder(tmp_path, val_share=share)


def test_names_of_files_are_shown_safely(tmp_path: Path) -> None:
    root = pictures(tmp_path, {"cat\x1b[31m": 3, "do\ng": 1})
    assert "the class 'do?g' has 1 image" in refusal(root)
    picture(root / "do\ng" / "x.png")
    (root / "stray\x1b.txt").write_text("x")
    notes = " ".join(read_folder(root).notes)
    assert "stray?.txt" in notes
    assert notes.isprintable()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="everything may be read here")
def test_a_locked_folder(tmp_path: Path) -> None:
    root = pictures(tmp_path, {"cat": 2, "dog": 2})
    (root / "dog").chmod(0)
    try:
        with pytest.raises(ImageError, match="permission denied"):
            read_folder(root)
    finally:
        (root / "dog").chmod(0o755)
