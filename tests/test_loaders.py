"""Every kind of thing that people have as a model: one loads it, explains with it, or is told why not."""

from __future__ import annotations

import dataclasses
import json
import shutil
import socket
import time

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sightline
from nets import make
from sightline.errors import LayerError, ModelError, RefusedError, TrustError
from sightline.models import zoo
from sightline.models.hub import preprocessing_of

zoo.import_torchvision()  # before timm and transformers, which import it too
timm = pytest.importorskip("timm")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")

X = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def same(a, b, tolerance: float = 1e-5) -> bool:
    return all(np.abs(x.attribution - y.attribution).max() < tolerance for x, y in zip(a, b, strict=True))


def net() -> nn.Module:
    return make("conv", torch.float32)[0]


# Hugging Face.


def tiny(kind: str, **more):
    torch.manual_seed(0)
    return getattr(transformers, f"{kind}Config")(num_labels=3, **more)


SMALL = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
HF = {
    "ViT": (tiny("ViT", **SMALL, image_size=64), (64, 64), (4, 4)),
    "DeiT": (tiny("DeiT", **SMALL, image_size=64), (64, 64), (4, 4)),
    "Dinov2WithRegisters": (
        tiny("Dinov2WithRegisters", **SMALL, image_size=56, patch_size=14),
        (56, 84),
        (4, 6),
    ),
    "Swin": (
        tiny("Swin", image_size=64, embed_dim=12, depths=[2, 2], num_heads=[2, 2], window_size=4),
        (64, 64),
        (8, 8),
    ),
    "ConvNext": (tiny("ConvNext", hidden_sizes=[8, 12], depths=[1, 1], num_stages=2), (64, 96), (8, 12)),
    "ResNet": (tiny("ResNet", embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1]), (64, 96), (8, 12)),
}  # fmt: skip


@pytest.mark.parametrize("kind", HF)
def test_hugging_face_classifiers_have_a_sensible_default_layer_also_for_oblong_inputs(kind):
    config, size, grid = HF[kind]
    module = getattr(transformers, f"{kind}ForImageClassification")(config).eval()
    (found,) = sightline.explain(module, torch.randn(1, 3, *size), "grad_cam")
    assert found.attribution.shape == grid
    assert found.heatmap.shape == size


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("hf") / "my-vit"
    config = HF["ViT"][0]
    config.id2label, config.label2id = {0: "cat", 1: "dog", 2: "owl"}, {"cat": 0, "dog": 1, "owl": 2}
    transformers.ViTForImageClassification(config).save_pretrained(path)
    settings = {"size": {"height": 64, "width": 64}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 3}
    (path / "preprocessor_config.json").write_text(json.dumps(settings))
    return path


def test_a_folder_brings_weights_class_names_and_preprocessing(folder):
    model = sightline.load(str(folder))
    assert model.name == "my-vit"
    assert list(model.labels) == ["cat", "dog", "owl"]
    assert model.preprocessing.describe().startswith("resized to 64x64 (bicubic), /255, mean 0.5 0.5 0.5")
    photo = np.random.default_rng(0).integers(0, 255, (40, 80, 3), dtype=np.uint8)
    assert sightline.explain(model, photo, "gradient", "owl").heatmap.shape == (40, 80)
    again = sightline.load(folder, weights=None)
    assert again.weights == "random"
    assert again.weights_hash != model.weights_hash


def test_a_backbone_without_a_head_is_refused(tmp_path):
    transformers.ViTModel(HF["ViT"][0]).save_pretrained(tmp_path / "backbone")
    with pytest.raises(ModelError, match=r"classifier.*fine-tune"):
        sightline.load(str(tmp_path / "backbone"))


def test_a_folder_with_another_kind_of_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelError, match="image classifier"):
        sightline.load(str(tmp_path))


def test_code_in_a_folder_does_not_run_unless_trusted(folder, tmp_path, capfd):
    remote = tmp_path / "remote"
    shutil.copytree(folder, remote)
    config = json.loads((remote / "config.json").read_text())
    names = {"AutoConfig": "mod.C", "AutoModelForImageClassification": "mod.X"}
    (remote / "config.json").write_text(json.dumps({**config, "model_type": "mything", "auto_map": names}))
    (remote / "mod.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(TrustError, match=r"code of its own.*--trust"):
        sightline.load(remote)
    assert not (tmp_path / "ran").exists()
    assert capfd.readouterr().out == ""


def test_damaged_folders_get_one_line(folder, tmp_path):
    def copy(name: str):
        shutil.copytree(folder, tmp_path / name)
        return tmp_path / name

    weights = copy("weights") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    config = copy("config") / "config.json"
    config.write_text(config.read_text().replace('"hidden_size": 24', '"hidden_size": 32'))
    (copy("processor") / "preprocessor_config.json").write_text("{no")
    (copy("empty") / "config.json").unlink()
    for name, words in {
        "weights": "cannot be loaded",
        "config": r"do not fit its config.json",
        "processor": "no JSON object",
        "empty": "without a config.json",
    }.items():
        with pytest.raises(ModelError, match=words) as caught:
            sightline.load(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_weights_that_come_with_a_file_that_has_its_own_are_refused(folder, tmp_path):
    torch.jit.save(torch.jit.trace(net(), X), tmp_path / "net.pt")
    for whole in (folder, to_onnx(net(), tmp_path / "net.onnx"), exported(tmp_path / "net.pt2"), tmp_path / "net.pt"):
        with pytest.raises(ModelError, match="holds its own"):
            sightline.load(whole, weights="other.pt", trust=True)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": 224}, "short side to 256, centre crop"),
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.875}, "short side to 256, centre crop 224x224"),
        ({"size": {"shortest_edge": 384}, "crop_pct": 0.875}, "resized to 384x384"),
        ({"size": 224}, "resized to 224x224"),
        ({"size": 256, "do_center_crop": True, "crop_size": {"height": 224, "width": 224}}, "short side to 256"),
        ({"size": {"height": 8, "width": 9}, "do_normalize": False}, "8x9 (bilinear), /255, mean 0 0 0"),
        ({"size": 64, "do_flip_channel_order": True}, "BGR"),
        ({"size": 64, "do_resize": False}, "no resizing"),
    ],
)
def test_processor_settings_are_read(settings, said):
    assert said in preprocessing_of(settings).describe()


def test_a_hub_name_without_network_is_refused_at_once(monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise OSError("no network")

    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(socket, "create_connection", refuse)
    started = time.perf_counter()
    with pytest.raises(ModelError, match=r"someone/some-net.*cannot be reached"):
        sightline.load("someone/some-net")
    assert time.perf_counter() - started < 10


def test_settings_that_a_broken_network_withholds_are_not_guessed(monkeypatch):
    import huggingface_hub

    from sightline.models import hub

    def broken(*_, **__):
        raise huggingface_hub.errors.LocalEntryNotFoundError("the connection broke off")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", broken)
    with pytest.raises(ModelError, match="broke off"):
        hub._processor("someone/some-net", local=False)
    assert hub._processor("someone/some-net", local=True) is None


# timm.


TIMM = {
    "vit_tiny_patch16_224": ({"img_size": (64, 96), "depth": 2}, (64, 96), (4, 6)),
    "deit_tiny_distilled_patch16_224": ({"img_size": 64, "depth": 2}, (64, 64), (4, 4)),
    "vit_small_patch14_reg4_dinov2": ({"img_size": (56, 84), "depth": 2}, (56, 84), (4, 6)),
    "swin_tiny_patch4_window7_224": (
        {"img_size": (128, 192), "depths": (1, 1), "num_heads": (2, 2)},
        (128, 192),
        (16, 24),
    ),
    "maxvit_rmlp_pico_rw_256": ({"img_size": 64}, (64, 64), (2, 2)),
    "convnext_atto": ({}, (64, 96), (2, 3)),
    "mixer_s32_224": ({"img_size": 64}, (64, 64), (2, 2)),
}


@pytest.mark.parametrize("name", TIMM)
def test_timm_families_have_a_sensible_default_layer_also_for_oblong_inputs(name):
    more, size, grid = TIMM[name]
    torch.manual_seed(0)
    module = timm.create_model(name, num_classes=5, **more).eval()
    (found,) = sightline.explain(module, torch.randn(1, 3, *size), "grad_cam")
    assert found.attribution.shape == grid
    assert found.heatmap.shape == size


def test_timm_by_name_with_random_weights_and_with_a_fine_tuned_file(tmp_path):
    from safetensors.torch import save_file

    model = sightline.load("timm/test_vit", weights=None)
    assert model.preprocessing.describe().startswith("short side to 168, centre crop 160x160 (bicubic)")
    assert len(model.labels) == 1000
    tuned = timm.create_model("test_vit", num_classes=4)
    save_file(tuned.state_dict(), tmp_path / "tuned.safetensors")
    loaded = sightline.load(f"timm/test_vit@{tmp_path}/tuned.safetensors")
    assert loaded.module.num_classes == 4
    assert len(loaded.labels) == 0
    assert torch.equal(loaded.module.head.weight, tuned.head.weight)
    with pytest.raises(ModelError, match="do not fit timm/test_resnet"):
        sightline.load("timm/test_resnet", weights=tmp_path / "tuned.safetensors")
    with pytest.raises(ModelError, match="Did you mean"):
        sightline.load("timm/resnet188")


def test_a_timm_module_from_python_brings_its_preprocessing():
    module = timm.create_model("test_vit", num_classes=4)
    assert "centre crop 160x160" in sightline.load(module).preprocessing.describe()


# Exported programs, TorchScript, ONNX.


def exported(path, batch: int | None = 1):
    given = torch.randn(batch or 2, 3, 32, 32)
    dims = None if batch else ({0: torch.export.Dim("n", min=1)},)
    torch.export.save(torch.export.export(net(), (given,), dynamic_shapes=dims), path)
    return path


@pytest.mark.parametrize("batch", [None, 1, 2])
def test_exported_programs_give_the_maps_of_the_module(batch, tmp_path):
    path = exported(tmp_path / "net.pt2", batch)
    with pytest.raises(TrustError, match="--trust"):
        sightline.load(path)
    model = sightline.load(path, trust=True)
    assert model.batch == batch
    three = torch.randn(3, 3, 32, 32)  # no multiple of two
    for method in ("grad_cam", "guided_backprop", "smooth_grad", "integrated_gradients"):
        few = {"samples": 3} if method == "smooth_grad" else {"steps": 3} if "integrated" in method else {}
        assert same(sightline.explain(model, three, method, **few), sightline.explain(net(), three, method, **few))
    assert [len(p) for p in sightline.predict(model, three)] == [5] * 3


def test_a_damaged_exported_program_is_said_to_be_one(tmp_path):
    (tmp_path / "bad.pt2").write_bytes(b"PK no")
    with pytest.raises(ModelError, match="no whole exported program"):
        sightline.load(tmp_path / "bad.pt2", trust=True)


def test_torchscript_serves_rules_and_refuses_layers(tmp_path):
    torch.jit.save(torch.jit.trace(net(), X), tmp_path / "net.pt")
    model = sightline.load(tmp_path / "net.pt", trust=True)
    for method in ("gradient", "guided_backprop", "deconvnet"):
        assert same(sightline.explain(model, X, method), sightline.explain(net(), X, method))
    with pytest.raises(LayerError, match="TorchScript runs without hooks"):
        sightline.explain(model, X, "grad_cam")


def to_onnx(module: nn.Module, path, x: Tensor = X, *, new: bool = False):
    how = {"dynamo": True, "verbose": False} if new else {"dynamo": False, "opset_version": 17}
    axes = {} if new else {"dynamic_axes": {"x": {0: "n"}}, "input_names": ["x"]}
    torch.onnx.export(module, (x,), str(path), **how, **axes)
    return path


@pytest.mark.parametrize("new", [False, True], ids=["torchscript exporter", "dynamo exporter"])
def test_onnx_is_converted_where_it_can_be_so_that_gradients_work(new, tmp_path):
    x = X[:1] if new else X
    model = sightline.load(to_onnx(net(), tmp_path / "net.onnx", x, new=new))
    assert not model.notes
    assert same(sightline.explain(model, X, "gradient"), sightline.explain(net(), X, "gradient"))
    assert sightline.explain(model, X, "grad_cam")[0].attribution.any()


def test_onnx_that_cannot_be_converted_runs_forward_only_and_says_so(tmp_path, monkeypatch):
    import onnx2torch

    def fail(*_):
        raise NotImplementedError("Converter is not implemented (Odd)")

    monkeypatch.setattr(onnx2torch, "convert", fail)
    model = sightline.load(to_onnx(net(), tmp_path / "net.onnx"))
    assert "Odd" in model.notes[0]
    assert "without gradients" in model.notes[0]
    assert sightline.predict(model, X)[0][0]["index"] == sightline.predict(net(), X)[0][0]["index"]
    with pytest.raises(RefusedError, match="only scores"):
        sightline.explain(model, X, "gradient")


def test_an_onnx_file_that_converts_to_something_else_is_not_believed(tmp_path, monkeypatch):
    import onnx2torch

    monkeypatch.setattr(onnx2torch, "convert", lambda _: nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 5)))
    model = sightline.load(to_onnx(net(), tmp_path / "net.onnx"))
    assert "differ" in model.notes[0]


class Heads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = net()

    def forward(self, x: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        return x.mean((2, 3)), self.inner(x) + shift


def test_onnx_with_several_inputs_and_outputs_has_them_by_name(tmp_path):
    names = {"input_names": ["x", "shift"], "dynamic_axes": {"x": {0: "n"}, "shift": {0: "n"}}}
    more = {"dynamo": False, "opset_version": 17, **names}
    for first, path in (("features", "named.onnx"), ("odd", "odd.onnx")):
        outputs = [first, "logits" if first == "features" else "mine"]
        torch.onnx.export(Heads(), (X, torch.zeros(2, 1)), str(tmp_path / path), output_names=outputs, **more)
    with pytest.raises(ModelError, match=r"fixed=.'shift': value"):
        sightline.load(tmp_path / "named.onnx")
    with pytest.raises(ModelError, match=r"fixed= holds shiift; named.onnx has the inputs x, shift"):
        sightline.load(tmp_path / "named.onnx", fixed={"shiift": torch.ones(1, 1)})
    fixed = {"shift": torch.ones(1, 1)}
    model = sightline.load(tmp_path / "named.onnx", fixed=fixed)
    assert not model.notes
    assert same(sightline.explain(model, X, "gradient"), sightline.explain(net(), X, "gradient"))
    with pytest.raises(ModelError, match=r"'odd'.*output="):
        sightline.predict(sightline.load(tmp_path / "odd.onnx", fixed=fixed), X)
    assert len(sightline.predict(sightline.load(tmp_path / "odd.onnx", fixed=fixed, output="mine"), X)[0]) == 5


def test_half_precision_onnx_is_explained_in_single(tmp_path):
    model = sightline.load(to_onnx(net().half(), tmp_path / "half.onnx", X.half()))
    (found, _) = sightline.explain(model, X, "gradient", 1)
    assert np.abs(found.attribution - sightline.explain(net(), X, "gradient", 1)[0].attribution).max() < 0.01


def test_a_damaged_onnx_file_is_said_to_be_one(tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="no whole ONNX file"):
        sightline.load(tmp_path / "bad.onnx")
    with pytest.raises(ModelError, match="does not exist"):
        sightline.load(tmp_path / "missing.onnx")


# Functions, outputs, further inputs.


def test_a_differentiable_function_gives_the_maps_of_its_net():
    module = net()
    assert same(
        sightline.explain(lambda x: module(x), X, "guided_backprop"), sightline.explain(module, X, "guided_backprop")
    )


def test_a_function_that_leaves_torch_gives_scores_and_says_that_it_gives_no_gradient():
    module = net()
    model = sightline.load(lambda x: module(x).detach().numpy())
    assert sightline.predict(model, X)[1][0]["index"] == sightline.predict(module, X)[1][0]["index"]
    with pytest.raises(RefusedError, match="only scores"):
        sightline.explain(model, X, "gradient")


def test_a_scoring_function_in_a_file_is_a_model(tmp_path):
    (tmp_path / "score.py").write_text("def score(batch):\n    return batch.mean((2, 3))\n")
    model = sightline.load(f"{tmp_path}/score.py:score")
    assert np.allclose(sightline.explain(model, X, "gradient", 1)[0].attribution[1], 1 / 1024)


@dataclasses.dataclass
class Result:
    embedding: Tensor
    logits: Tensor


class Several(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.inner, self.kind = net(), kind

    def forward(self, x: Tensor):
        scores, features = self.inner(x), x.mean((2, 3))
        return {
            "tuple": (scores, x),
            "same": (scores, scores + 1),
            "list": [scores],
            "nested": (x, {"scores": scores}),
            "dict": {"features": features, "logits": scores},
            "dataclass": Result(features, scores),
            "ambiguous": (features, scores),
            "odd names": {"features": features, "mine": scores},
        }[self.kind]


@pytest.mark.parametrize("kind", ["tuple", "same", "list", "nested", "dict", "dataclass"])
def test_the_logits_are_found_in_structures(kind):
    assert same(sightline.explain(Several(kind), X, "gradient"), sightline.explain(net(), X, "gradient"))


@pytest.mark.parametrize(("kind", "name"), [("ambiguous", 1), ("odd names", "mine")])
def test_where_two_could_be_the_logits_the_user_is_asked(kind, name):
    with pytest.raises(ModelError, match="output="):
        sightline.explain(Several(kind), X, "gradient")
    model = sightline.load(Several(kind), output=name)
    assert same(sightline.explain(model, X, "grad_cam"), sightline.explain(net(), X, "grad_cam"))
    with pytest.raises(ModelError, match="name one of those"):
        sightline.explain(sightline.load(Several(kind), output="missing"), X, "gradient")


class Multiplied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = net()

    def forward(self, x: Tensor, factor: Tensor, shift: float = 0.0) -> Tensor:
        return self.inner(x) * factor + shift


@pytest.mark.parametrize(
    "fixed", [{"factor": torch.full((1, 1), 2.0)}, (np.full((1, 1), 2.0, np.float32), 1.0)], ids=str
)
def test_further_inputs_are_fixed_once(fixed):
    model = sightline.load(Multiplied(), fixed=fixed)
    found, wanted = (sightline.explain(m, X, "gradient", 1) for m in (model, net()))
    assert all(np.allclose(f.attribution, 2 * w.attribution, atol=1e-6) for f, w in zip(found, wanted, strict=True))
    assert model.default_layer(X) == "inner.features"


def test_what_is_no_model_is_refused():
    with pytest.raises(ModelError, match="a int came"):
        sightline.load(3)
