"""Loading models: names, files, factories, modules; what does not fit is refused in one line."""

from __future__ import annotations

import importlib
import subprocess
import sys
import urllib.error
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import sightline
from nets import ConvNet, make
from sightline.errors import ModelError, TrustError
from sightline.labels import Labels, read_labels
from sightline.models import zoo
from sightline.models.load import load
from sightline.models.model import guess_channels


@pytest.fixture(scope="module")
def squeezenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("weights") / "squeezenet.safetensors"
    save_file(zoo.build("squeezenet1_1", seed=3).state_dict(), file)
    return file


def test_a_bare_weights_file_gets_the_usual_preprocessing_and_labels(squeezenet: Path) -> None:
    model = load("squeezenet1_1", weights=squeezenet)
    assert (model.preprocessing.resize, model.preprocessing.crop) == (256, 224)
    assert model.labels.name(282) == "tiger cat"
    assert model.weights == "squeezenet.safetensors"


def test_name_at_file_is_the_same_model(squeezenet: Path) -> None:
    assert load(f"squeezenet1_1@{squeezenet}").weights_hash == load("squeezenet1_1", weights=squeezenet).weights_hash


def test_the_weights_hash_changes_with_one_weight(squeezenet: Path) -> None:
    a, b = load("squeezenet1_1", weights=squeezenet), load("squeezenet1_1", weights=squeezenet)
    with torch.no_grad():
        next(b.module.parameters()).view(-1)[0] += 1e-3
    assert a.weights_hash != b.weights_hash


def test_random_weights_say_so_and_leave_the_random_state_alone(caplog: pytest.LogCaptureFixture) -> None:
    before = torch.random.get_rng_state()
    model = load("squeezenet1_1", weights=None)
    assert model.weights == "random"
    assert "random weights" in caplog.text
    assert torch.equal(before, torch.random.get_rng_state())
    assert load("squeezenet1_1", weights="none").weights_hash == model.weights_hash
    assert load("squeezenet1_1", weights=None, seed=1).weights_hash != model.weights_hash


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"model": s}])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_checkpoints_are_unwrapped(tmp_path: Path, squeezenet: Path, wrap, prefix: str) -> None:
    state = {prefix + k: v for k, v in load("squeezenet1_1", weights=squeezenet).module.state_dict().items()}
    torch.save(wrap(state), tmp_path / "w.pt")
    assert (
        load("squeezenet1_1", weights=tmp_path / "w.pt").weights_hash
        == load(f"squeezenet1_1@{squeezenet}").weights_hash
    )


def test_a_fine_tuned_head_keeps_its_number_of_classes(tmp_path: Path) -> None:
    state = {k: v.clone() for k, v in zoo.build("squeezenet1_1").state_dict().items()}
    state["classifier.1.weight"], state["classifier.1.bias"] = torch.randn(3, 512, 1, 1), torch.zeros(3)
    save_file(state, tmp_path / "three.safetensors")
    model = load("squeezenet1_1", weights=tmp_path / "three.safetensors", labels=["a", "b", "c"])
    assert model.module(torch.zeros(1, 3, 64, 64)).shape == (1, 3)
    assert model.labels.names == ("a", "b", "c")
    assert not load("squeezenet1_1", weights=tmp_path / "three.safetensors").labels


def test_weights_of_another_architecture_name_the_keys(tmp_path: Path) -> None:
    save_file({"conv.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match=r"missing: features\.0\.weight.*unexpected: conv\.weight"):
        load("squeezenet1_1", weights=tmp_path / "other.safetensors")


class Payload:
    """A pickle that runs code when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (Path.write_text, (self.mark, "ran"))


def test_a_pickle_that_runs_code_is_refused_unless_trusted(tmp_path: Path) -> None:
    mark, file = tmp_path / "mark", tmp_path / "evil.pt"
    torch.save({"state_dict": Payload(mark)}, file)
    for what, weights in (("squeezenet1_1", file), (str(file), "default")):
        with pytest.raises(TrustError, match="--trust"):
            load(what, weights=weights)
    assert not mark.exists()


def test_a_pickled_module_loads_with_trust(tmp_path: Path) -> None:
    torch.save(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), tmp_path / "whole.pt")
    assert isinstance(load(str(tmp_path / "whole.pt"), trust=True).module, nn.Sequential)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 half a zip"])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_damaged_weights_are_one_line(tmp_path: Path, content: bytes, suffix: str) -> None:
    file = tmp_path / f"w{suffix}"
    file.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        load("squeezenet1_1", weights=file)
    assert "\n" not in str(caught.value)


def test_weights_that_hold_nan_are_refused(tmp_path: Path) -> None:
    net = ConvNet()
    with torch.no_grad():
        net.head.weight[0, 0] = float("nan")
    with pytest.raises(ModelError, match=r"head\.weight"):
        sightline.explain(net, torch.zeros(1, 3, 16, 16))


def test_no_network_names_what_works_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: "/nonexistent/hub")
    monkeypatch.setattr("os.makedirs", lambda *_, **__: None)
    with pytest.raises(ModelError, match=r"--weights FILE.*sightline demo"):
        load("resnet18")


@pytest.mark.parametrize(
    ("weights", "says"), [("IMAGENET1K_V9", "IMAGENET1K_V1"), ("missing.pt", "does not exist"), (".", "is a directory")]
)
def test_unknown_weights_say_which_there_are(weights: str, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        load("resnet18", weights=weights)


def test_a_module_is_used_as_it_is() -> None:
    net, _ = make("conv")
    model = load(net)
    assert model.module is net
    assert load(model).module is net
    with pytest.raises(ModelError, match="load_state_dict"):
        load(net, weights="file.pt")


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(ModelError, match="auto, cpu, cuda or mps"):
        load("demo/honest", device="cdua")
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match="not available"):
            load("demo/honest", device="cuda")


def test_the_channels_of_the_first_convolution_decide_the_assumed_preprocessing() -> None:
    assert guess_channels(nn.Sequential(nn.Conv2d(5, 4, 3))) == 5
    assert load(nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())).preprocessing.channels == 1


def test_googlenet_from_a_file_gets_the_input_transform_of_its_weights(tmp_path: Path) -> None:
    save_file(zoo.build("googlenet").state_dict(), tmp_path / "g.safetensors")
    assert load("googlenet", weights=tmp_path / "g.safetensors").module.transform_input is True


def test_labels_are_read_from_json_and_text(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"0": ["n01", "tench"], "1": ["n02", "goldfish"]}')
    (tmp_path / "b.json").write_text('["x", "y"]')
    (tmp_path / "c.txt").write_text("one\ntwo\n")
    assert read_labels(tmp_path / "a.json") == Labels(("tench", "goldfish"), ("n01", "n02"))
    assert read_labels(tmp_path / "b.json").names == ("x", "y")
    assert read_labels(tmp_path / "c.txt").names == ("one", "two")
    (tmp_path / "gap.json").write_text('{"0": "a", "2": "b"}')
    with pytest.raises(ValueError, match="without gaps"):
        read_labels(tmp_path / "gap.json")


def test_class_names_of_another_number_of_classes_are_refused() -> None:
    net, x = make("conv")
    with pytest.raises(ValueError, match="3 class names"):
        sightline.explain(load(net, labels=["a", "b", "c"]), x)


def test_importing_sightline_loads_nothing_heavier_than_torch() -> None:
    heavy = "torchvision matplotlib scipy streamlit keras lightning pandas typer rich PIL.ImageShow"
    code = (
        "import sys, sightline; sightline.explain, sightline.load, sightline.compare\n"
        f"print([m for m in '{heavy}'.split() if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_the_public_names_exist() -> None:
    assert sorted(sightline.__all__) == sightline.__all__
    assert all(getattr(sightline, name) is not None for name in sightline.__all__)
    for submodule in ("engine", "render.compare", "methods", "models.load"):  # none may hide a public name
        importlib.import_module(f"sightline.{submodule}")
    assert all(callable(getattr(sightline, name)) for name in ("explain", "compare", "load", "method", "predict"))


def test_a_copy_in_another_precision_keeps_the_output_that_was_named() -> None:
    class TwoHeads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 2, 3), nn.Conv2d(3, 4, 3)

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"a": self.a(x).mean((2, 3)), "b": self.b(x).mean((2, 3))}

    model = load(TwoHeads(), output="b")
    x = torch.randn(1, 3, 8, 8)
    exact = sightline.explain(model, x, "gradient", precision="float64")[0]
    plain = sightline.explain(model, x, "gradient")[0]
    assert len(exact.predictions) == len(plain.predictions) == 4
    assert exact.score == pytest.approx(plain.score, abs=1e-5)
