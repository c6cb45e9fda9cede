"""A trained classifier's folder: what is written is what is opened, wherever the folder is."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

import sightline
from nets import ConvNet
from sightline.cli.main import app
from sightline.errors import InputError, ModelError, TrustError
from sightline.geometry import Preprocessing
from sightline.labels import Labels
from sightline.models import bundle
from sightline.models.bundle import FILE, is_bundle, write_bundle
from sightline.models.keras import import_keras
from sightline.models.load import load
from sightline.models.model import Model
from sightline.training.heads import find_heads, trainable, with_heads

HOW = Preprocessing(resize=(24, 32), crop=None, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6), fit="pad", order="bgr")
NAMES = ("cat", "dog", "猫 “x”")
FACTORY = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)

    def forward(self, x):
        return self.head(self.conv(x).relu().mean((2, 3)))

def make():
    return Net()
"""


def trained(name: Any, how: Preprocessing | None = HOW, **more: Any) -> tuple[Model, tuple[str, ...]]:
    """Return a model that was given a new head, as if it had learned."""
    model = trainable(load(name, weights=None, device="cpu", preprocessing=how, **more))
    heads = find_heads(model.module, model.example_input())
    with_heads(model.module, heads, len(NAMES), seed=5)
    return replace(model, labels=Labels(NAMES)), heads


def written(name: Any, folder: Path, architecture: str | None = None, **more: Any) -> Model:
    model, heads = trained(name, **more)
    write_bundle(model, str(name) if architecture is None else architecture, folder, heads=heads)
    return model


def same(a: Model, b: Model) -> bool:
    x = a.example_input()
    with torch.no_grad():
        return torch.equal(a.module.eval()(x), b.module(x)) and not b.module.training


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    written("small-cnn", tmp_path / "run")
    return tmp_path / "run"


def test_what_is_opened_is_what_was_written(tmp_path: Path) -> None:
    model = written("small-cnn", tmp_path / "run")
    state = torch.get_rng_state()
    again = load(tmp_path / "run", device="cpu")
    assert torch.equal(torch.get_rng_state(), state)
    assert same(model, again)
    assert (again.name, again.weights, tuple(again.labels)) == ("run", "model.safetensors", NAMES)
    assert again.preprocessing == HOW
    assert (again.notes, again.assumed) == ((), False)
    assert again.weights_hash == model.weights_hash
    picture = np.zeros((40, 50, 3), np.uint8)
    assert sightline.predict(again, [picture])[0][0]["label"] in NAMES


@pytest.mark.slow
@pytest.mark.parametrize("name", ["squeezenet1_1", "vgg7", "demo/vit", "timm/resnet10t"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_each_kind_of_name_opens_again(name: str, tmp_path: Path) -> None:
    model = written(name, tmp_path / "run", how=None if name == "demo/vit" else HOW)
    assert same(model, load(tmp_path / "run", device="cpu"))


def test_series_open_again(tmp_path: Path) -> None:
    model = written("mnist1d-cnn", tmp_path / "run", how=None)
    again = load(tmp_path / "run", device="cpu")
    assert (again.input_dims, again.input_size) == (1, (40,))
    assert same(model, again)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_keras_models_open_again(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    keras = import_keras()
    net = keras.Sequential([keras.layers.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(3)])
    model = replace(load(net), labels=Labels(NAMES))
    write_bundle(model, "keras/own", tmp_path / "run")
    again = load(tmp_path / "run", device="cpu")
    x = model.example_input()
    assert torch.equal(model.module(x), again.module(x))
    assert tuple(again.labels) == NAMES


def test_a_folder_opens_by_any_path_and_after_a_move(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = load(folder, device="cpu")
    shutil.copytree(folder, tmp_path / "copy with spaces")
    folder.rename(tmp_path / "renamed")
    monkeypatch.chdir(tmp_path)
    opened = [load(p, device="cpu") for p in ("renamed", "./copy with spaces/", tmp_path / "renamed")]
    assert [m.name for m in opened] == ["renamed", "copy with spaces", "renamed"]
    assert all(same(before, m) for m in opened)
    monkeypatch.chdir(tmp_path / "renamed")
    assert load(".", device="cpu").name == "renamed"


def test_a_training_that_went_on_from_a_bundle_needs_it_no_more(folder: Path, tmp_path: Path) -> None:
    model = written(folder, tmp_path / "second", architecture=str(folder))
    shutil.rmtree(folder)
    again = load(tmp_path / "second", device="cpu")
    assert same(model, again)
    assert json.loads((tmp_path / "second" / FILE).read_text())["architecture"] == "small-cnn"


def test_a_factory_is_code_and_runs_only_where_it_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, run = tmp_path / "net.py", tmp_path / "run"
    file.write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    model = written("net.py:make", run)
    monkeypatch.chdir("/")  # its file is found from anywhere
    with pytest.raises(TrustError, match=r"trained from .*net.py:make, which is code.*--trust.*--model FILE.py:FUNC"):
        load(run, device="cpu")
    assert same(model, load(run, device="cpu", trust=True))
    file.rename(tmp_path / "moved.py")
    with pytest.raises(ModelError, match="does not exist"):
        load(run, device="cpu", trust=True)
    named = f"{tmp_path / 'moved.py'}:make"
    assert same(model, load(f"{named}@{run}", device="cpu"))  # the user names the code
    assert same(model, load(named, weights=run, device="cpu"))


def test_a_module_of_ones_own_says_how_it_is_opened(tmp_path: Path) -> None:
    model = written(ConvNet().eval(), tmp_path / "run", architecture="")
    with pytest.raises(ModelError, match=r"a module of your own \(ConvNet\).*load\(module, weights='.*run'\)"):
        load(tmp_path / "run")
    own = ConvNet().eval()
    before = {k: v.clone() for k, v in own.state_dict().items()}
    again = load(own, weights=tmp_path / "run")
    assert same(model, again)
    assert tuple(again.labels) == NAMES
    assert all(torch.equal(v, before[k]) for k, v in own.state_dict().items())
    with pytest.raises(ModelError, match="weights= came with a module"):
        load(own, weights="other.safetensors")


def test_weights_of_a_bundle_do_not_go_into_another_network(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"names 'head' as the layer of its 3 classes, which does not fit"):
        load(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), weights=folder)
    with pytest.raises(ModelError, match="do not fit"):
        load("vgg7", weights=folder)


def test_shared_weights_and_half_precision_are_kept(tmp_path: Path) -> None:
    net = ConvNet()
    net.again = net.head  # type: ignore[assignment]
    model = written(net.half().eval(), tmp_path / "run", architecture="")
    other = ConvNet().eval()
    other.again = other.head  # type: ignore[assignment]
    assert same(model, load(other, weights=tmp_path / "run"))


def test_bundles_and_folders_of_hugging_face_are_not_confused(folder: Path, tmp_path: Path) -> None:
    (folder / "config.json").write_text("{}")
    assert load(folder, device="cpu").name == "run"
    assert not is_bundle(tmp_path)
    with pytest.raises(ModelError, match=r"a folder without a config\.json"):
        load(tmp_path)


def test_weights_beside_a_bundle_are_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match="which holds its own"):
        load(folder, weights="other.safetensors")


def test_the_command_line_takes_a_bundle(folder: Path) -> None:
    found = CliRunner().invoke(app, ["layers", str(folder)])
    assert found.exit_code == 0, found.output
    assert "head" in found.output


def test_a_full_disk_leaves_what_was_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    monkeypatch.setattr(bundle, "_save", full)
    model, heads = trained("small-cnn")
    with pytest.raises(InputError, match="No space left on device"):
        write_bundle(model, "small-cnn", folder, heads=heads)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


class Bare(nn.Module):
    """A head without a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 5, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).mean((2, 3)))


def test_a_head_without_a_bias_opens_again(tmp_path: Path) -> None:
    model = written(Bare().eval(), tmp_path / "run", architecture="")
    assert same(model, load(Bare().eval(), weights=tmp_path / "run"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_timm_files_of_nets_with_two_heads_have_their_own_number_of_classes(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    timm = pytest.importorskip("timm")
    net = timm.create_model("deit_tiny_distilled_patch16_224", num_classes=4)
    save_file(net.state_dict(), tmp_path / "w.safetensors")
    model = load(f"timm/deit_tiny_distilled_patch16_224@{tmp_path / 'w.safetensors'}", device="cpu")
    assert model.module.head_dist.out_features == 4
