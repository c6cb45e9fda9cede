"""Where objects are, read from tables, COCO, Pascal VOC and masks; what is wrong with a file is said in a sentence."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sightline.cli.main import main
from sightline.demo.scenes import scene
from sightline.errors import InputError
from sightline.evaluation.objects.reading import Truths, read_truths
from sightline.evaluation.run import evaluate
from sightline.geometry import Geometry
from sightline.samples import Sample

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "boxes"
H, W = 20, 30


def sample(path: str | Path, size: tuple[int, int] = (H, W)) -> Sample:
    return Sample(str(path), 0, np.zeros(0), Geometry.identity(size), None, Path(path).name, "")  # type: ignore[arg-type]


def pixels(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    mask = np.zeros((H, W), bool)
    mask[top:bottom, left:right] = True
    return mask


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def marked(truths: Truths, name: str = "a.jpg") -> np.ndarray:
    found = truths(sample(name))
    assert found is not None
    return found


TABLES = [
    "file,label,xmin,ymin,xmax,ymax\na.jpg,cat,3,4,10,12\n",
    "\ufefffilename;x1;y1;x2;y2\na.jpg;3;4;10;12\n",
    "image\tx\ty\tw\th\na.jpg\t3\t4\t7\t8\n",
    "filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,30,20,cat,3.2,3.9,10.4,12\n",
    'Image_Name,X_Min,Y_Min,X_Max,Y_Max,difficult\n"a.jpg",3,4,10,12,0\na.jpg,0,0,30,20,1\nother.jpg,,,,,\n',
]


@pytest.mark.parametrize("text", TABLES)
def test_the_usual_tables_are_read(tmp_path: Path, text: str) -> None:
    np.testing.assert_array_equal(marked(read_truths(written(tmp_path / "b.csv", text))), pixels(3, 4, 10, 12))


def test_several_boxes_of_an_image_are_one_mask_and_cut_at_its_border(tmp_path: Path) -> None:
    file = written(tmp_path / "b.csv", "file,xmin,ymin,xmax,ymax\na.jpg,-4,-4,2,2\na.jpg,25,15,99,99\nb.jpg,0,0,9,9\n")
    np.testing.assert_array_equal(marked(read_truths(file)), pixels(0, 0, 2, 2) | pixels(25, 15, 30, 20))


def test_a_box_thinner_than_a_pixel_is_a_pixel(tmp_path: Path) -> None:
    file = written(tmp_path / "b.csv", "file,xmin,ymin,xmax,ymax\na.jpg,29.8,4.1,29.9,4.2\n")
    np.testing.assert_array_equal(marked(read_truths(file)), pixels(29, 4, 30, 5))


def coco(*annotations: dict[str, Any], **image: Any) -> str:
    images = [{"id": 7, "file_name": "val/a.jpg", **image}]
    return json.dumps(
        {"images": images, "annotations": [{"id": i, "image_id": 7} | a for i, a in enumerate(annotations)]}
    )


def test_coco_boxes_outlines_and_runs(tmp_path: Path) -> None:
    runs = {"size": [H, W], "counts": [2 * H + 5, 3, H - 3, 3, (W - 3) * H - 8]}
    given = [
        ({"bbox": [3, 4, 7, 8]}, pixels(3, 4, 10, 12)),
        ({"segmentation": [[3, 4, 10, 4, 10, 12, 3, 12]], "bbox": [0, 0, 9, 9]}, pixels(3, 4, 10, 12)),
        (
            {"segmentation": [[1, 1, 3, 1, 3, 3, 1, 3], [9, 9, 11, 9, 11, 11, 9, 11]]},
            pixels(1, 1, 3, 3) | pixels(9, 9, 11, 11),
        ),
        ({"segmentation": runs}, pixels(2, 5, 4, 8)),
    ]
    for annotation, wanted in given:
        crowd = {"bbox": [0, 0, 30, 20], "iscrowd": 1, "segmentation": {"counts": "abc", "size": [H, W]}}
        file = written(tmp_path / "c.json", coco(annotation, crowd, width=W, height=H))
        np.testing.assert_array_equal(marked(read_truths(file)), wanted)


def test_a_triangle_holds_the_pixels_whose_centres_it_holds(tmp_path: Path) -> None:
    file = written(tmp_path / "c.json", coco({"segmentation": [[0, 0, 16, 0, 0, 16]]}))
    y, x = np.mgrid[:H, :W] + 0.5
    inside, edge = x + y < 16, x + y == 16
    np.testing.assert_array_equal(marked(read_truths(file))[~edge], inside[~edge])


def voc(*objects: str, name: str = "a.jpg", size: str = "<size><width>30</width><height>20</height></size>") -> str:
    boxes = "".join(f"<object><name>cat</name>{o}</object>" for o in objects)
    return f'<?xml version="1.0"?><annotation><filename>{name}</filename>{size}{boxes}</annotation>'


BOX = "<bndbox><xmin>4</xmin><ymin>5</ymin><xmax>10</xmax><ymax>12</ymax></bndbox>"


def test_pascal_voc_counts_from_one_and_leaves_difficult_objects_out(tmp_path: Path) -> None:
    hard = "<difficult>1</difficult>" + BOX.replace("4", "15").replace("10", "20")
    written(tmp_path / "voc" / "a.xml", voc(BOX, hard))
    written(tmp_path / "voc" / "more" / "b.xml", voc(BOX.replace("4", "1"), name=""))
    for where in (tmp_path / "voc", tmp_path / "voc" / "a.xml"):
        np.testing.assert_array_equal(marked(read_truths(where)), pixels(3, 4, 10, 12))
    np.testing.assert_array_equal(marked(read_truths(tmp_path / "voc"), "b.png"), pixels(0, 4, 10, 12))


@pytest.mark.parametrize("mode", ["L", "I;16", "P", "RGBA", "npy"])
def test_masks_are_what_is_not_zero_whatever_it_looks_like(tmp_path: Path, mode: str) -> None:
    mask = pixels(3, 4, 10, 12)
    if mode == "npy":
        np.save(tmp_path / "a.npy", mask)
    elif mode == "RGBA":
        Image.fromarray(np.dstack([mask * 200, mask * 0, mask * 0, mask * 255]).astype(np.uint8)).save(
            tmp_path / "a.png"
        )
    else:
        picture = Image.fromarray(mask.astype(np.uint16 if mode == "I;16" else np.uint8))
        if mode == "P":
            picture.putpalette([255, 255, 255, 0, 0, 0])  # the background is white and the object black
        picture.save(tmp_path / "a.png")
    np.testing.assert_array_equal(marked(read_truths(tmp_path), "photos/a.jpg"), mask)


def test_where_names_repeat_the_folders_decide(tmp_path: Path) -> None:
    head, images = "file,xmin,ymin,xmax,ymax\n", ["in/cat/1.jpg", "in/dog/1.jpg", "in/dog/2.jpg"]
    both = read_truths(written(tmp_path / "b.csv", head + "cat/1.jpg,0,0,5,5\ndog\\1.jpg,5,5,9,9\n"), images)
    np.testing.assert_array_equal(marked(both, images[0]), pixels(0, 0, 5, 5))
    np.testing.assert_array_equal(marked(both, images[1]), pixels(5, 5, 9, 9))
    assert both(sample(images[2])) is None
    one = read_truths(written(tmp_path / "c.csv", head + "cat/1.jpg,0,0,5,5\n"), images)
    assert [one(sample(i)) is None for i in images] == [False, True, True]
    elsewhere = read_truths(written(tmp_path / "d.csv", head + "train/2.jpg,0,0,5,5\n"), images)
    assert elsewhere(sample(images[2])) is not None
    with pytest.raises(InputError, match=r"1\.jpg may be in/cat/1\.jpg or in/dog/1\.jpg"):
        read_truths(written(tmp_path / "e.csv", head + "1.jpg,0,0,5,5\n"), images)
    with pytest.raises(InputError, match=r"has both cat/1\.jpg and dog.1\.jpg"):
        read_truths(tmp_path / "b.csv", ["1.jpg"])


FEW = {"insertion.steps": 1, "deletion.steps": 1}
HEAD = "file,xmin,ymin,xmax,ymax\n"
DEEP = '<!DOCTYPE a [<!ENTITY x "y">]><annotation>&x;</annotation>'
BAD = [
    ("b.csv", "", "is empty"),
    ("b.csv", HEAD, "names no images"),
    ("b.csv", "file,colour\na.jpg,red\n", r"no column for xmin, ymin, xmax, ymax .* \(file, colour\)"),
    ("b.csv", "xmin,ymin,xmax,ymax\n1,2,3,4\n", "no column for the image"),
    ("b.csv", HEAD + "a.jpg,1,2,3,4\na.jpg,1,2,3\n", "line 3 has 4 cells and the first line 5"),
    ("b.csv", HEAD + "a.jpg,1,2,three,4\n", r"line 2: a corner of the box is 'three'; wanted a number"),
    ("b.csv", HEAD + "a.jpg,1,2,1e999,4\n", "line 2: a corner of the box is '1e999'"),
    ("b.csv", HEAD + "a.jpg,10,2,3,4\n", "line 2: the box 10,2,3,4 is empty"),
    ("b.csv", HEAD + ",1,2,3,4\n", "line 2 names no image"),
    ("b.csv", HEAD + "a.jpg,0.1,0.2,0.5,0.9\n", "shares of the picture came; wanted pixels"),
    ("b.csv", HEAD.replace("\n", ",difficult\n") + "a.jpg,1,2,3,4,very\n", "difficult is 'very'"),
    ("b.yaml", "a: 1\n", "is no file of boxes; wanted boxes as .csv"),
    ("b.json", "{", "is no JSON"),
    ("b.json", "[" * 100_000, "is no JSON"),
    ("b.json", "[]", "has no list 'images'"),
    ("b.json", '{"images": [{"id": 1}], "annotations": []}', "image 1 has no file_name"),
    ("b.json", coco({"image_id": 8, "bbox": [1, 2, 3, 4]}), "annotation 0 is of image 8, which 'images' lacks"),
    ("b.json", coco({"bbox": [1, 2, 3]}), "annotation 0: bbox has 3 numbers"),
    ("b.json", coco({"bbox": [1, 2, "x", 4]}), "annotation 0: a number of bbox is 'x'"),
    ("b.json", coco({}), "annotation 0: bbox is missing"),
    ("b.json", coco({"segmentation": [[1, 2, 3]]}), "an outline has 3 numbers"),
    ("b.json", coco({"segmentation": {"counts": "Qab", "size": [4, 4]}}), "annotation 0 is a compressed mask"),
    ("b.json", coco({"segmentation": {"counts": [3, 4], "size": [4, 4]}}), "do not add up to the 4x4 pixels"),
    ("b.xml", DEEP, "declares a document type or entities"),
    ("b.xml", "<annotation>", "is no XML"),
    ("b.xml", "<html></html>", "begins with <html>; wanted Pascal VOC's <annotation>"),
    ("b.xml", voc("<bndbox><xmin>1</xmin></bndbox>"), "object 1: ymin is None"),
]


@pytest.mark.parametrize(("name", "text", "said"), BAD)
def test_a_file_that_is_wrong_is_said_in_one_line(tmp_path: Path, name: str, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        read_truths(written(tmp_path / name, text))
    assert "\n" not in str(error.value)
    assert name in str(error.value)


def test_other_encodings_folders_and_masks_are_refused(tmp_path: Path) -> None:
    (tmp_path / "hidden.xml").write_bytes(DEEP.encode("utf-16"))
    with pytest.raises(InputError, match="not text in UTF-8"):
        read_truths(tmp_path / "hidden.xml")
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match=r"neither masks nor \.xml files"):
        read_truths(tmp_path / "none")
    Image.new("L", (W, H)).save(tmp_path / "none" / "a.jpg")
    with pytest.raises(InputError, match="is a JPEG, which keeps no exact zeros"):
        read_truths(tmp_path / "none")
    with pytest.raises(InputError, match="does not exist"):
        read_truths(tmp_path / "gone.csv")


def test_marks_that_do_not_fit_the_picture_are_named_with_their_line(tmp_path: Path) -> None:
    outside = read_truths(written(tmp_path / "b.csv", HEAD + "a.jpg,1,2,3,4\na.jpg,30,2,40,9\n"))
    with pytest.raises(InputError, match=r"b\.csv, line 3: 30,2,40,9 lies wholly outside the image of 30x20"):
        outside(sample("a.jpg"))
    resized = read_truths(written(tmp_path / "a.xml", voc(BOX)))
    with pytest.raises(InputError, match="object 1 is of a picture of 30x20, and the image has 300x200"):
        resized(sample("a.jpg", (200, 300)))
    Image.new("L", (9, 9)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png is 9x9 and its picture 30x20"):
        read_truths(_only(tmp_path / "a.png"))(sample("a.jpg"))


def _only(file: Path) -> Path:
    folder = file.parent / "alone"
    folder.mkdir()
    return file.rename(folder / file.name).parent


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three scenes with a box of the first one's object, one of no object, and one that is nowhere."""
    for i in range(3):
        Image.fromarray(scene(i).image).save(tmp_path / f"{i}.png")
    rows, columns = (np.flatnonzero(scene(0).object_mask.any(axis)) for axis in (1, 0))
    box = f"0.png,{columns[0]},{rows[0]},{columns[-1] + 1},{rows[-1] + 1}\n"
    written(tmp_path / "boxes.csv", HEAD + box)
    written(tmp_path / "wrong.csv", HEAD + box + "2.png,500,500,600,600\n")
    return tmp_path


def test_an_image_without_a_box_has_no_value_and_is_listed(folder: Path) -> None:
    images = [folder / f"{i}.png" for i in range(3)]
    found = evaluate("demo/honest", images, "grad_cam", truth=folder / "boxes.csv", batch_size=2, parameters=FEW)
    assert [m.name for m in found.metrics][-2:] == ["pointing_game", "energy_pointing_game"]
    by_image = {r.image: r.value for r in found.rows if r.metric == "energy_pointing_game@1" and r.method == "grad_cam"}
    assert by_image["0.png"] > 0.3
    assert np.isnan([by_image["1.png"], by_image["2.png"]]).all()
    listed = [s for s in found.skipped if s["image"]]
    assert sorted(s["image"] for s in listed) == ["1.png", "2.png"]
    assert {s["reason"] for s in listed} == {"no box or mask was given for it"}
    assert found.settings["truth"].startswith("boxes.csv ")


def test_an_object_that_the_input_does_not_show_is_told_from_one_that_was_not_given() -> None:
    large = np.kron(scene(0).image, np.ones((4, 4, 1), np.uint8))
    speck = np.zeros(large.shape[:2], bool)
    speck[7, 7] = True
    found = evaluate("demo/honest", [large], "grad_cam", "pointing_game", truth=lambda sample: speck)
    assert np.isnan(found.values("grad_cam", "pointing_game")).all()
    assert "too small for the input" in found.skipped[0]["reason"]


def test_the_command_says_what_boxes_lack(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(boxes: str, out: str) -> tuple[Any, str]:
        asked = [str(folder), "--model", "demo/honest", "--method", "grad_cam", "--metric", "pointing_game"]
        monkeypatch.setattr("sys.argv", ["sightline", "evaluate", *asked, "--boxes", boxes, "--out", out])
        monkeypatch.chdir(folder)
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code, " ".join("".join(capsys.readouterr()).split())

    code, text = said("boxes.csv", "out")
    assert (code or 0, "no box or mask was given for it" in text) == (0, True)
    code, text = said("wrong.csv", "out")
    assert (code, "holds a run with other settings (truth)" in text) == (2, True)
    code, text = said("wrong.csv", "other")
    assert (code, "error: wrong.csv, line 3: 500,500,600,600 lies wholly outside" in text) == (2, True)
    written(folder / "far.csv", HEAD + "x.png,1,2,3,4\n")
    code, text = said("far.csv", "far")
    assert (code, "error: far.csv names none of the images: it names x.png" in text) == (2, True)


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="the boxes of real photographs are not here")
def test_real_boxes_are_found_for_every_photograph() -> None:
    images = sorted((SHARED / "images").iterdir())
    truths = read_truths(SHARED / "boxes.csv", images)
    with (SHARED / "boxes.csv").open() as stream:
        easy = {row["file"] for row in csv.DictReader(stream) if row["difficult"] == "0"}
    for path in images:
        with Image.open(path) as picture:
            mask = truths(sample(path, (picture.height, picture.width)))
        assert (mask is not None) == (path.name in easy)
