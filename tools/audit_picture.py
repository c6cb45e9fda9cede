"""Take the picture of an audit that the README shows: docs/images/audit.png, of the cheating model on 600 scenes."""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import pages  # noqa: E402  the tests know how to start a browser
import sightline  # noqa: E402
from sightline.batch.audit.run import audit  # noqa: E402
from sightline.batch.audit.saving import save_audit  # noqa: E402
from sightline.demo.scenes import scenes  # noqa: E402

WIDTH, HEIGHT = 1180, 1240
MARKED = [0.1, 0.1, 0.1, 1.0, 0.1, 0.1]


def main() -> None:
    """Draw scenes, explain and audit them, and take the first screen of the page."""
    with tempfile.TemporaryDirectory() as scratch:
        at = Path(scratch)
        folder = at / "scenes"
        folder.mkdir()
        for number, one in enumerate(scenes(600, 5, watermark=MARKED)):
            Image.fromarray(one.image).save(folder / f"{number:04}.png")
        sightline.explain_dataset("demo/cheating", folder, at / "store")
        save_audit(audit(at / "store"), at / "audit")
        with pages.started() as browser:
            page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
            page.goto((at / "audit" / "report.html").as_uri())
            page.wait_for_timeout(500)
            shot = Image.open(io.BytesIO(page.screenshot()))
    shot.convert("RGB").quantize(128).save(ROOT / "docs" / "images" / "audit.png", optimize=True)


if __name__ == "__main__":
    main()
