"""Models and pictures of the visitor's own, in the browser: taken, refused in a sentence, kept apart, forgotten."""

from __future__ import annotations

import io
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save

import apps
import pages
from apps import expect
from sightline.app.parts.picture import FORMATS, subject_of
from sightline.app.settings import Settings
from sightline.app.uploads import Belongings, forget_the_gone
from sightline.demo.scenes import scene
from sightline.errors import ImageError
from sightline.models.cached import Cached, cached_models
from sightline.models.load import load

browsed = pytest.mark.slow


FACTORY = """from torch import nn

def build():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the app with a model that is there when it starts and gone when a visitor asks for it."""
    gone = tmp_path_factory.mktemp("models") / "gone.py"
    gone.write_text(FACTORY, encoding="utf-8")
    with apps.served(Settings(models=(f"{gone}:build",), upload_mb=5, keep_seconds=2)) as found:
        gone.unlink()
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with pages.started() as found:
        yield found


def file(name: str, data: bytes) -> dict[str, Any]:
    return {"name": name, "mimeType": "application/octet-stream", "buffer": data}


def photo(seed: int = 3, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(scene(seed).image).save(stream, format=kind)
    return stream.getvalue()


def drop(page: Any, given: dict[str, Any]) -> None:
    page.locator("[data-testid=stSidebar] input[type=file]").first.set_input_files(given)
    apps.settled(page)


def in_sidebar(page: Any, text: str) -> Any:
    return page.locator("[data-testid=stSidebar]").get_by_text(text)


@browsed
def test_a_model_that_cannot_be_loaded_is_a_sentence_and_another_can_be_chosen(browser: Any, address: str) -> None:
    with apps.visit(browser, f"{address}/?model=demo/honest") as page:
        apps.choose_only(page, "Model", "gone.py:build")
        page.get_by_text("gone.py").last.wait_for()
        page.get_by_role("alert").wait_for()
        apps.choose(page, "Model", "demo/vit")
        page.get_by_alt_text("grad_cam map for “ring”").wait_for()


@browsed
def test_own_pictures_are_kept_apart_and_forgotten(browser: Any, address: str) -> None:
    with apps.visit(browser, f"{address}/?model=demo/honest") as page:
        drop(page, file("a.png", photo(3)))
        first = page.get_by_title("Explain").first.inner_text()
        drop(page, file("a.png", photo(14)))
        chosen = page.get_by_role("combobox", name="Picture")
        expect(chosen).to_have_value("your a.png (2)")
        expect(page.get_by_title("Explain").first).not_to_have_text(first, use_inner_text=True)
        apps.choose(page, "Picture", "your a.png")
        expect(page.get_by_title("Explain").first).to_have_text(first, use_inner_text=True)
        url = page.url
        in_sidebar(page, "Forget my photos").click()
        apps.settled(page)
        expect(chosen).to_have_value("ring with a mark")
    assert "your+a.png" in url
    with apps.visit(browser, url) as page:
        expect(in_sidebar(page, "Your photo is gone")).to_be_visible()


@browsed
def test_wrong_pictures_are_a_sentence(browser: Any, address: str) -> None:
    with apps.visit(browser, f"{address}/?model=demo/honest") as page:
        drop(page, file("![x](http://evil.example/x.png) <b>.jpg", b"hello"))
        expect(in_sidebar(page, "<b>.jpg is not an image, whatever its name says")).to_be_visible()
        drop(page, file("big.png", bytes(6 << 20)))
        expect(in_sidebar(page, "5.0MB").first).to_be_visible()


@browsed
def test_an_own_model_is_tried_taken_prepared_and_forgotten(browser: Any, address: str) -> None:
    net = load("small-cnn", weights=None, device="cpu").module
    weights = save({name: v.contiguous().clone() for name, v in net.state_dict().items()})
    with apps.visit(browser, f"{address}/?model=demo/honest") as page:
        in_sidebar(page, "Another model").click()
        apps.settled(page)
        in_sidebar(page, "My file").click()
        apps.settled(page)
        uploaders = page.locator("[data-testid=stSidebar] input[type=file]")
        uploaders.nth(1).set_input_files(file("net.pt", b"\x80\x04"))
        in_sidebar(page, "Check and take it").click()
        in_sidebar(page, "net.pt is a pickle, which can run any code").wait_for()
        uploaders.nth(1).set_input_files(file("net.safetensors", weights))
        uploaders.nth(2).set_input_files(file("names.txt", b"\n".join(b"my class %d" % i for i in range(6))))
        apps.settled(page)
        architecture = page.get_by_role("combobox", name="Its architecture")
        architecture.fill("small-cnn")
        architecture.press("Enter")
        apps.settled(page)
        in_sidebar(page, "Check and take it").click()
        in_sidebar(page, "Forget my models").wait_for(timeout=90_000)
        apps.settled(page)
        expect(page.get_by_role("combobox", name="Model")).to_have_value("your net.safetensors")
        assert page.get_by_title("Explain “my class").count() >= 5
        apps.picture(page, "own-model-1280-light")
        in_sidebar(page, "Forget my models").click()
        page.get_by_title("Explain “my class").first.wait_for(state="detached")


@browsed
@pytest.mark.parametrize(("width", "scheme"), apps.LOOKS)
def test_random_weights_come_from_the_url(browser: Any, address: str, width: int, scheme: str) -> None:
    with apps.visit(browser, f"{address}/?model=small-vit+(random+weights)&another_way=By+name", width, scheme) as page:
        if width < 800:
            page.get_by_test_id("stExpandSidebarButton").click()
        in_sidebar(page, "it knows nothing: a control").wait_for()
        in_sidebar(page, "Another model").click()
        apps.settled(page)
        in_sidebar(page, "will be downloaded to this machine").wait_for()
        apps.pictures(page, "another-model")


# --- without a browser --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "HEIF"])
def test_every_format_is_read(kind: str) -> None:
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    name = f"photo.{'heic' if kind == 'HEIF' else kind.lower()}"
    found = subject_of(photo(3, kind), name)
    assert name.rpartition(".")[2] in FORMATS
    assert (found.image.size, found.image.mode, found.name) == ((96, 96), "RGB", f"your {name}")
    assert np.abs(np.asarray(found.image).astype(int) - scene(3).image).mean() < 12


def bomb(side: int) -> bytes:
    stream = io.BytesIO()
    Image.new("1", (side, side)).save(stream, format="PNG")
    return stream.getvalue()


NO_PICTURES = [
    (b"", "x.jpg is empty; choose it again"),
    (b"hello", "x.jpg is not an image, whatever its name says"),
    (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "is not an image"),
    (photo()[:200], "damaged or truncated"),
    (bomb(20_000), "400,000,000 pixels .* over the limit of 50,000,000"),
]


@pytest.mark.parametrize(("data", "said"), NO_PICTURES, ids=["empty", "text", "svg", "cut", "bomb"])
def test_what_is_no_picture_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(ImageError, match=said) as error:
        subject_of(data, "x.jpg")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["../../etc/passwd.png", "<script>.png", "a\0\n\x1b[31m.png", "é" * 300 + ".png", ""])
def test_names_are_only_shown(name: str) -> None:
    found = subject_of(photo(), name)
    assert found.name.startswith("your ")
    assert found.name.isprintable()
    assert len(found.name) <= 70
    assert found.key == subject_of(photo(), "other.png").key
    assert found.private


def test_what_a_closed_page_brought_is_forgotten_after_a_while() -> None:
    stays, goes = Belongings("stays", seen=0.0), Belongings("goes", seen=0.0)
    for one in (stays, goes):
        one.pictures["your a.png"] = subject_of(photo(), "a.png")
    assert forget_the_gone([stays, goes], lambda session: session == "stays", 50.0, 60) == []
    assert (len(stays.pictures), len(goes.pictures)) == (1, 1)  # a machine that sleeps for a moment loses nothing
    assert forget_the_gone([stays, goes], lambda session: session == "stays", 100.0, 60) == ["goes"]
    assert (len(stays.pictures), len(goes.pictures)) == (1, 0)


def test_models_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    assert cached_models() == []
    if not find_spec("torchvision") or not find_spec("keras"):
        pytest.skip("torchvision or Keras is not installed")
    for name in ("torch/checkpoints/resnet50-0676ba61.pth", "torch/checkpoints/resnet18-f37072fd.pth"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [c for c in cached_models() if c.name.startswith("resnet")]
    assert found == [Cached("resnet18"), Cached("resnet50", "IMAGENET1K_V1")]  # whose default is another file
    (tmp_path / "keras" / "models").mkdir(parents=True)
    for name in ("resnet50v2_weights_tf_dim_ordering_tf_kernels.h5", "vgg16_weights_notop.h5", "efficientnetv2-b0.h5"):
        (tmp_path / "keras" / "models" / name).touch()
    names = [c.name for c in cached_models() if c.name.startswith("keras/")]
    assert names == ["keras/EfficientNetV2B0", "keras/ResNet50V2"]
