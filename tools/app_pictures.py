"""Take the pictures of the app that the README shows: each page as a visitor finds it, in docs/images."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import apps  # noqa: E402  the tests know how to start the app and visit it
import pages  # noqa: E402

MARKED = "picture=ring+with+a+mark&model=demo%2Fcheating"
SHOWN = {
    "explain": f"?{MARKED}&method=grad_cam&method=integrated_gradients",
    "compare": "compare?picture=ring+with+a+mark",
    "check": f"check?{MARKED}&map=guided_backprop",
    "ask": f"ask?{MARKED}",
    "learn": "learn",
}
WIDTH, HEIGHT = 1280, 860


def main() -> None:
    """Write docs/images/app-PAGE.png for each page."""
    with apps.served() as address, pages.started() as browser:
        for name, path in SHOWN.items():
            with apps.visit(browser, f"{address}/{path}") as page:
                _take(page, ROOT / "docs" / "images" / f"app-{name}.png")


def _take(page: Any, file: Path) -> None:
    page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
    page.wait_for_timeout(4000)
    apps.settled(page)
    Image.open(io.BytesIO(page.screenshot())).convert("RGB").save(file, optimize=True)
    sys.stdout.write(f"{file.name}: {file.stat().st_size // 1024} KB\n")


if __name__ == "__main__":
    main()
