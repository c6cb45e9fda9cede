"""Annotation files: boxes as a table, COCO JSON or Pascal VOC XML, and folders of masks, each image's marks by name.

Files are read whole, up to a limit; what does not fit is an InputError that names the file and the line.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sightline.errors import InputError
from sightline.evaluation.objects.marks import Mark, Size, box_mark, file_mark, outline_mark, pixels_of, run_mark
from sightline.paths import check_file, files_below, is_picture, shown, why
from sightline.schema import fold

__all__ = ["Marks", "read_marks"]

_MOST_BYTES = 256 << 20
_MOST_XML = 4 << 20
_WANTED = (
    "wanted boxes as .csv (file,xmin,ymin,xmax,ymax), COCO .json, Pascal VOC .xml or a folder of these, or a folder "
    "of masks named as the photographs"
)

# What a column's name may be, without case, dashes and underscores.
_IMAGE = ("file", "filename", "image", "imagename", "imagepath", "imageid", "path", "filepath", "name", "img")
_CORNERS = (("xmin", "x1", "left"), ("ymin", "y1", "top"), ("xmax", "x2", "right"), ("ymax", "y2", "bottom"))
_LENGTHS = (
    ("x", "bboxx", "xmin", "left"),
    ("y", "bboxy", "ymin", "top"),
    ("w", "width", "bboxw"),
    ("h", "height", "bboxh"),
)
_FLAGS = {"": False, "0": False, "false": False, "no": False, "1": True, "true": True, "yes": True}


@dataclass(frozen=True, eq=False)
class Marks:
    """What a file or folder marks: the marks of each image by its name there, and the file's own name and digest."""

    source: str
    digest: str
    named: Mapping[str, Sequence[Mark]]


def read_marks(path: Path) -> Marks:
    """Read a file of boxes, or a folder of such files or of masks; InputError for anything else."""
    said = shown(str(path))
    if path.is_dir():
        return _folder(path, said)
    readers = {".csv": _table, ".tsv": _table, ".txt": _table, ".json": _coco, ".xml": _voc}
    reader = readers.get(path.suffix.casefold())
    check_file(path, said, "annotation", "*.csv")
    if reader is None:
        raise InputError(f"{said} is no file of boxes; {_WANTED}.")
    content = _content(path, said, _MOST_XML if reader is _voc else _MOST_BYTES)
    return _checked(said, _digest([content]), reader(_text(content, said), said))


def _folder(path: Path, said: str) -> Marks:
    files = files_below(path)
    annotations = [f for f in files if f.suffix.casefold() == ".xml"]
    if annotations:
        contents = [_content(f, shown(str(f)), _MOST_XML) for f in annotations]
        found = [_voc(_text(c, shown(str(f))), shown(str(f))) for f, c in zip(annotations, contents, strict=True)]
        return _checked(said, _digest(contents), _merged(found))
    masks = [f for f in files if is_picture(f)]
    if not masks:
        raise InputError(f"{said} holds neither masks nor .xml files; {_WANTED}.")
    digest = _digest(f"{m.relative_to(path)} {m.stat().st_size}".encode() for m in masks)
    return Marks(said, digest, _merged({m.relative_to(path).with_suffix("").as_posix(): [file_mark(m)]} for m in masks))


def _merged(parts: Iterable[Mapping[str, list[Mark]]]) -> dict[str, list[Mark]]:
    found: dict[str, list[Mark]] = {}
    for part in parts:
        for name, marks in part.items():
            found.setdefault(name, []).extend(marks)
    return found


def _digest(contents: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    return digest.hexdigest()[:16]


def _content(path: Path, said: str, most: int) -> bytes:
    check_file(path, said, "annotation", "*.csv")
    try:
        with path.open("rb") as stream:
            content = stream.read(most + 1)
    except OSError as error:
        raise InputError(f"{said} cannot be read ({why(error)}); check its rights.") from None
    if len(content) > most:
        raise InputError(f"{said} has over {most >> 20} MiB; cut it down to the images that are measured.")
    return content


def _text(content: bytes, said: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{said} is not text in UTF-8; save it as that. Otherwise {_WANTED}.") from None


def _checked(said: str, digest: str, named: dict[str, list[Mark]]) -> Marks:
    extents = [m.extent for marks in named.values() for m in marks if m.extent is not None]
    if not named:
        raise InputError(f"{said} names no images; {_WANTED}.")
    if extents and max(max(e) for e in extents) <= 1:
        raise InputError(f"{said}: all boxes lie within 0 to 1, so shares of the picture came; wanted pixels.")
    return Marks(said, digest, named)


# --- a table ------------------------------------------------------------------------------------------------


def _table(text: str, said: str) -> dict[str, list[Mark]]:
    """Read a table with a line of names: corners, or a corner with width and height, of one box a line."""
    first = text.partition("\n")[0]
    rows = csv.reader(io.StringIO(text), delimiter=max(",;\t", key=first.count))
    try:
        columns = _Columns.of([fold(name) for name in next(rows, [])], said)
        return _merged(columns.read(row, f"{said}, line {rows.line_num}") for row in rows if any(map(str.strip, row)))
    except csv.Error as error:
        raise InputError(f"{said}, line {rows.line_num} is no line of a table ({why(error)}); {_WANTED}.") from None


@dataclass(frozen=True)
class _Columns:
    """Where the columns of a table are; ``lengths`` says that the last two of the box are width and height."""

    count: int
    image: int
    box: Sequence[int]
    lengths: bool
    difficult: int | None
    size: Sequence[int]

    @staticmethod
    def of(names: Sequence[str], said: str) -> _Columns:
        image, corners, lengths = _place(names, _IMAGE), _places(names, _CORNERS), _places(names, _LENGTHS)
        if image is None or not (corners or lengths):
            missing = "the image" if image is None else "xmin, ymin, xmax, ymax (or x, y, w, h)"
            has = shown(", ".join(names))[:120] or "none"
            raise InputError(f"{said}: no column for {missing} among its first line's names ({has}); {_WANTED}.")
        # Beside corners, width and height are the picture's.
        size = _places(names, (("height", "imageheight"), ("width", "imagewidth"))) if corners else ()
        return _Columns(len(names), image, corners or lengths, not corners, _place(names, ("difficult",)), size)

    def read(self, row: Sequence[str], where: str) -> dict[str, list[Mark]]:
        if len(row) != self.count:
            raise InputError(f"{where} has {len(row)} cells and the first line {self.count}; wanted as many.")
        cells = [cell.strip() for cell in row]
        if not cells[self.image]:
            raise InputError(f"{where} names no image; wanted its file name.")
        hard = "" if self.difficult is None else cells[self.difficult].casefold()
        if hard not in _FLAGS:
            raise InputError(f"{where}: difficult is '{shown(hard)[:40]}'; wanted 0 or 1.")
        if _FLAGS[hard] or not any(cells[i] for i in self.box):  # a line without a box says that there is none
            return {cells[self.image]: []}
        a, b, c, d = (pixels_of(cells[i], where, "a corner of the box") for i in self.box)
        size = tuple(int(pixels_of(cells[i], where, "the picture's size")) for i in self.size)
        extent = (a, b, a + c, b + d) if self.lengths else (a, b, c, d)
        return {cells[self.image]: [box_mark(where, extent, (size[0], size[1]) if size else None)]}


def _place(names: Sequence[str], known: Sequence[str]) -> int | None:
    return next((names.index(name) for name in known if name in names), None)


def _places(names: Sequence[str], wanted: Sequence[Sequence[str]]) -> list[int]:
    found = [_place(names, known) for known in wanted]
    return [i for i in found if i is not None] if None not in found else []


# --- COCO ---------------------------------------------------------------------------------------------------


def _coco(text: str, said: str) -> dict[str, list[Mark]]:
    """Read the annotations of COCO's instances: outlines where they are, else boxes; crowds are left out."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{said} is no JSON ({why(error)}); {_WANTED}.") from None
    images, annotations = _entries(data, "images", said), _entries(data, "annotations", said)
    named: dict[Any, tuple[str, Size | None]] = {}
    for number, image in enumerate(images):
        named[_key(image, "id", said)] = _coco_image(image, f"{said}, image {number + 1}")
    found: dict[str, list[Mark]] = {name: [] for name, _ in named.values()}
    for number, annotation in enumerate(annotations):
        where = f"{said}, annotation {shown(str(annotation.get('id', number + 1)))[:40]}"
        of = named.get(_key(annotation, "image_id", where))
        if of is None:
            raise InputError(f"{where} is of image {shown(str(annotation['image_id']))[:40]}, which 'images' lacks.")
        if not (annotation.get("iscrowd") or annotation.get("ignore") or annotation.get("difficult")):
            found[of[0]].append(_coco_mark(annotation, where, of[1]))
    return found


def _entries(data: Any, name: str, said: str) -> list[dict[str, Any]]:
    found = data.get(name) if isinstance(data, dict) else None
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise InputError(f"{said} has no list '{name}', as COCO files have; {_WANTED}.")
    return found


def _key(entry: Mapping[str, Any], name: str, where: str) -> Any:
    found = entry.get(name)
    if not isinstance(found, (int, str)):
        raise InputError(f"{where}: '{name}' is missing or no number; wanted it of each entry.")
    return found


def _coco_image(image: Mapping[str, Any], where: str) -> tuple[str, Size | None]:
    name = image.get("file_name")
    if not isinstance(name, str) or not name.strip():
        raise InputError(f"{where} has no file_name; wanted the name of its file.")
    if image.get("width") is None or image.get("height") is None:
        return name, None
    height, width = (int(pixels_of(image[k], where, k)) for k in ("height", "width"))
    return name, (height, width)


def _coco_mark(annotation: Mapping[str, Any], where: str, size: Size | None) -> Mark:
    outlines, box = annotation.get("segmentation"), annotation.get("bbox")
    if isinstance(outlines, dict):
        return _coco_runs(outlines, where)
    if outlines:
        return outline_mark(where, [_outline(o, where) for o in _listed(outlines, where, "segmentation")], size)
    values = [pixels_of(v, where, "a number of bbox") for v in _listed(box, where, "bbox")]
    if len(values) != 4:
        raise InputError(f"{where}: bbox has {len(values)} numbers; wanted x, y, width, height.")
    left, top, width, height = values
    return box_mark(where, (left, top, left + width, top + height), size)


def _listed(value: Any, where: str, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise InputError(f"{where}: {name} is missing or no list; wanted bbox [x, y, width, height] or outlines.")
    return value


def _outline(values: Any, where: str) -> np.ndarray:
    numbers = [pixels_of(v, where, "a point of an outline") for v in _listed(values, where, "segmentation")]
    if len(numbers) < 6 or len(numbers) % 2:
        raise InputError(f"{where}: an outline has {len(numbers)} numbers; wanted x, y of three points or more.")
    return np.array(numbers).reshape(-1, 2)


def _coco_runs(mask: Mapping[str, Any], where: str) -> Mark:
    counts, size = mask.get("counts"), mask.get("size")
    if isinstance(counts, (str, bytes)):
        raise InputError(f"{where} is a compressed mask; wanted outlines, boxes, or counts as a list: decode it first.")
    height, width = (int(pixels_of(v, where, "size")) for v in [*_listed(size, where, "size"), 0, 0][:2])
    runs = [int(pixels_of(v, where, "a run")) for v in _listed(counts, where, "counts")]
    return run_mark(where, runs, (height, width))


# --- Pascal VOC ---------------------------------------------------------------------------------------------


def _voc(text: str, said: str) -> dict[str, list[Mark]]:
    """Read one image's annotation; its boxes count pixels from 1 and hold the last one too."""
    from xml.etree import ElementTree

    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise InputError(f"{said} declares a document type or entities, which no Pascal VOC file needs; remove them.")
    try:
        root = ElementTree.fromstring(text)  # noqa: S314  nothing is left that could expand
    except (ElementTree.ParseError, ValueError) as error:
        raise InputError(f"{said} is no XML ({why(error)}); {_WANTED}.") from None
    if root.tag != "annotation":
        raise InputError(f"{said} begins with <{shown(root.tag)[:40]}>; wanted Pascal VOC's <annotation>.")
    name = (root.findtext("filename") or "").strip() or Path(said).stem
    size = _voc_size(root, said)
    objects = [(f"{said}, object {i}", o) for i, o in enumerate(root.findall("object"), 1)]
    return {name: [_voc_box(where, o, size) for where, o in objects if not _difficult(where, o)]}


def _voc_size(root: Any, said: str) -> Size | None:
    found = [root.findtext(f"size/{k}") for k in ("height", "width")]
    height, width = (0 if v is None else int(pixels_of(v, said, "the picture's size")) for v in found)
    return (height, width) if height and width else None  # labelling tools write 0 where they do not know


def _difficult(where: str, entry: Any) -> bool:
    said = (entry.findtext("difficult") or "").strip().casefold()
    if said not in _FLAGS:
        raise InputError(f"{where}: difficult is '{shown(said)[:40]}'; wanted 0 or 1.")
    return _FLAGS[said]


def _voc_box(where: str, entry: Any, size: Size | None) -> Mark:
    corners = ("xmin", "ymin", "xmax", "ymax")
    left, top, right, bottom = (pixels_of(entry.findtext(f"bndbox/{k}"), where, k) for k in corners)
    return box_mark(where, (left - 1, top - 1, right, bottom), size)
