"""An audit as files: a contact sheet for each cluster, the images of each strategy, the numbers, and a page."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from sightline.batch.audit.page import save_page
from sightline.batch.audit.results import Audit, Found
from sightline.batch.audit.sheets import sheet
from sightline.errors import InputError
from sightline.output import file_part, written

__all__ = ["save_audit"]


def save_audit(audit: Audit, folder: Path) -> dict[str, Any]:
    """Write all of them and return their names."""
    _remove_earlier(folder)
    files: dict[str, Any] = {
        "sheets": _save_sheets(audit, folder),
        "images": [str(_save_images(audit, f, n, folder)) for n, f in enumerate(audit.found, 1)],
        "report": str(save_page(audit, folder / "report.html")),
    }
    names = [Path(file).name for file in (*files["sheets"], *files["images"], files["report"])]
    return files | {"json": str(_save_json(audit, folder / "audit.json", names))}


def _remove_earlier(folder: Path) -> None:
    """Remove the files of an earlier audit in this folder: its sheets would be taken for this one's."""
    file = folder / "audit.json"
    try:
        names = json.loads(file.read_text(encoding="utf-8"))["files"]
    except FileNotFoundError:
        return
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{file} is not of an audit; name another --out.") from None
    for name in names:
        (folder / Path(str(name)).name).unlink(missing_ok=True)


def _save_sheets(audit: Audit, folder: Path) -> list[str]:
    files = []
    for a in audit.classes:
        for cluster in a.clusters:
            file = folder / f"{file_part(a.group.label)}-{cluster.number}.png"
            with written(file) as aside:
                sheet(audit, a, cluster).save(aside)
            files.append(str(file))
    return files


def _save_images(audit: Audit, f: Found, number: int, folder: Path) -> Path:
    """Write the images that show a strategy as a CSV."""
    s = f.strategy
    file = folder / f"{number}.{file_part(s.label)}-{file_part(s.kinds[0])}.csv"
    with written(file) as aside, aside.open("w", newline="", encoding="utf-8") as stream:
        lines = csv.writer(stream)
        lines.writerow(["image", "prediction", "strategy", "verdict"])
        lines.writerows([image, s.label, s.kinds[0], f.verdict] for image in audit.images(f))
    return file


def _save_json(audit: Audit, file: Path, names: list[str]) -> Path:
    with written(file) as aside:
        text = json.dumps(audit.to_dict() | {"files": names}, indent=1, ensure_ascii=False, allow_nan=False)
        aside.write_text(text + "\n", encoding="utf-8")
    return file
