"""Which class an image is of: folders and tables, matched to a model's classes."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from sightline.errors import ImageError, InputError, ParameterError, TargetError
from sightline.evaluation.mistakes.labelled import labelled_images
from sightline.labels import Labels


def folder_of(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(root / file)
    return root


LABELS = Labels(("tench", "tiger cat", "crane", "crane", "1"), ("n01", "n02", "n03", "n04", "n05"))


@pytest.mark.parametrize(("name", "index"), [("tench", 0), ("Tiger_Cat", 1), ("n04", 3), ("2", 2), ("1", 4)])
def test_a_folder_is_a_class_by_label_id_or_index(tmp_path: Path, name: str, index: int) -> None:
    found = labelled_images(folder_of(tmp_path, f"{name}/deep/a.png"), LABELS)
    assert (found.truths, found.files) == ((index,), (f"{name}/deep/a.png",))


def test_a_folder_that_is_no_class_is_told_with_close_names_and_can_be_mapped(tmp_path: Path) -> None:
    root = folder_of(tmp_path, "tenhc/a.png", "crane/b.png")
    with pytest.raises(TargetError, match=r"folder 'crane' matches no class \(nor do 1 others\): .* 2 or 3"):
        labelled_images(root, LABELS)
    with pytest.raises(TargetError, match=r"'tenhc' matches no class: .* Did you mean tench\?"):
        labelled_images(root, LABELS, mapping={"crane": "2"})
    assert labelled_images(root, LABELS, mapping={"crane": "2", "tenhc": "tiger cat"}).truths == (2, 1)
    with pytest.raises(ParameterError, match=r"no images are of 'crnae'\. Did you mean crane"):
        labelled_images(root, LABELS, mapping={"crnae": "2"})


def test_the_folder_above_the_class_folders_is_recognised(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"'test' matches no class: the folders in it do .*'tench'"):
        labelled_images(folder_of(tmp_path, "test/tench/a.png"), LABELS)


def test_folders_in_order_are_the_classes_of_a_model_without_names(tmp_path: Path) -> None:
    root = folder_of(tmp_path, "b/x.png", "c/y.png")
    (root / "a").mkdir()  # a class without images still has its number
    with pytest.raises(TargetError, match="no class names; give --labels FILE, --map b=0, or --sorted"):
        labelled_images(root, Labels())
    found = labelled_images(root, Labels(), in_order=True)
    assert (found.truths, found.names) == ((1, 2), {0: "a", 1: "b", 2: "c"})
    found.check_classes(3)
    with pytest.raises(TargetError, match="3 folders came in alphabetical order for a model of 4 classes"):
        found.check_classes(4)
    with pytest.raises(ParameterError, match="--sorted and --map"):
        labelled_images(root, Labels(), in_order=True, mapping={"b": "1"})


def test_images_in_no_class_folder_are_an_error_or_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds 1 images but no folder for each class"):
        labelled_images(folder_of(tmp_path, "a.png"), LABELS)
    assert labelled_images(folder_of(tmp_path, "tench/b.png"), LABELS).notes == (
        "left out: 1 image beside the class folders, in none of them",
    )
    with pytest.raises(InputError, match="is a file; wanted a folder"):
        labelled_images(tmp_path / "a.png", LABELS)
    (tmp_path / "none").mkdir()
    with pytest.raises(ImageError, match="holds no images"):
        labelled_images(tmp_path / "none", LABELS)


def test_a_table_gives_classes_by_name_or_index_and_what_it_leaves_out_is_said(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "x", "a.png", "b.png", "c.png", "d.png")
    table = tmp_path / "t.csv"
    table.write_text(
        f"File,class_index,class_name,source\na.png,0,fish,web\n{root / 'b.png'},,Tiger cat,\nc.png,-1,,\n"
    )
    found = labelled_images(root, LABELS, table=table)
    assert (found.files, found.truths) == (("a.png", "b.png"), (0, 1))
    assert found.names == {0: "fish", 1: "Tiger cat"}
    assert [n.partition(": ")[2] for n in found.notes] == [
        "1 image to which the table gives no class",
        "1 image that the table does not list",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file,label\na.png,tench\n", "wanted the columns file and class .* came: file, label"),
        ("", "came: nothing"),
        ("file,class\na.png,\n", "gives no image a class"),
        ("file,class\na.png,tench\na.png,crane\n", "lists a.png more than once"),
        ("file,class\na.png,tenhc\n", "class 'tenhc' matches no class: .*Did you mean tench"),
        ("file,class_index\na.png,7\n", "the model has 5 classes, numbered 0 to 4"),
    ],
)
def test_a_table_that_is_none_is_a_sentence(tmp_path: Path, text: str, said: str) -> None:
    root = folder_of(tmp_path / "x", "a.png")
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError, match=said):
        labelled_images(root, LABELS, table=tmp_path / "t.csv")
    with pytest.raises(InputError, match="cannot be read"):
        labelled_images(root, LABELS, table=tmp_path / "none.csv")
