"""An audit as files: a contact sheet for each cluster, the images of each strategy, the numbers, and a page."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from sightline.batch.audit.page import save_page
from sightline.batch.audit.results import Audit, Found
from sightline.batch.audit.sheets import sheet
from sightline.output import file_part, written

__all__ = ["save_audit"]


def save_audit(audit: Audit, folder: Path) -> dict[str, Any]:
    """Write all of them and return their names."""
    return {
        "sheets": _save_sheets(audit, folder),
        "images": [str(_save_images(audit, f, n, folder)) for n, f in enumerate(audit.found, 1)],
        "json": str(_save_json(audit, folder / "audit.json")),
        "report": str(save_page(audit, folder / "report.html")),
    }


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


def _save_json(audit: Audit, file: Path) -> Path:
    with written(file) as aside:
        text = json.dumps(audit.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)
        aside.write_text(text + "\n", encoding="utf-8")
    return file
