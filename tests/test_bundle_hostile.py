"""A trained classifier's folder from anybody: it is read, and nothing in it runs."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from sightline.errors import ModelError, SightlineError, TrustError
from sightline.labels import Labels
from sightline.models.bundle import FILE, write_bundle
from sightline.models.load import load
from sightline.training.heads import trainable, with_heads


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = trainable(load("small-cnn", weights=None, device="cpu"))
    with_heads(model.module, ["head"], 2)
    write_bundle(replace(model, labels=Labels(("a", "b"))), "small-cnn", tmp_path / "run", heads=["head"])
    return tmp_path / "run"


def changed(folder: Path, **changes: Any) -> None:
    about = json.loads((folder / FILE).read_text())
    (folder / FILE).write_text(json.dumps({**about, **changes}))


def refused(folder: Path, said: str, kind: type[SightlineError] = ModelError, **more: Any) -> None:
    state = torch.get_rng_state()
    with pytest.raises(kind, match=said) as error:
        load(folder, device="cpu", **more)
    assert type(error.value) is kind
    assert "\n" not in str(error.value)
    assert torch.equal(torch.get_rng_state(), state)


def test_weights_that_were_changed_or_are_gone_are_said(folder: Path) -> None:
    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    refused(folder, r"model.safetensors is missing, or is not what was written with sightline.json; train again")
    weights.unlink()
    refused(folder, "is missing")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, '{"format": 1}', "\ud800"])
def test_a_damaged_file_is_said(folder: Path, text: str) -> None:
    (folder / FILE).write_text(text, encoding="utf-8", errors="surrogatepass")
    refused(folder, "sightline.json (cannot be read as JSON|is not what sightline train writes)")


def test_a_newer_format_asks_for_a_newer_version(folder: Path) -> None:
    changed(folder, format=2)
    refused(folder, "is of format 2 and this version reads 1; update sightline")


WRONG: list[tuple[str, Any]] = [
    ("format", True),
    ("format", "1"),
    ("format", 0),
    ("kind", "pickle"),
    ("kind", ["torch"]),
    ("kind", "keras"),  # whose weights have another name
    ("name", 3),
    ("architecture", None),
    ("architecture", ["small-cnn"]),
    ("config", "x"),
    ("options", {"__class__": True}),
    ("options", {"transform_input": 1}),
    ("heads", "head"),
    ("heads", [1]),
    ("weights", "../../etc/passwd"),
    ("weights", "/etc/passwd"),
    ("weights", "model.pt"),
    ("weights", 5),
    ("sha256", None),
    ("classes", []),
    ("classes", "ab"),
    ("classes", [1, 2]),
    ("preprocessing", []),
    ("preprocessing", {"resize": 10**9}),
    ("preprocessing", {"crop": [60000, 60000]}),
    ("preprocessing", {"mean": "x"}),
    ("preprocessing", {"std": [0, 0, 0]}),
    ("preprocessing", {"scale": float("inf")}),
    ("preprocessing", {"evil": 1}),
    ("input_size", [10**12]),
    ("input_size", [-3, 4]),
    ("input_size", [True]),
    ("input_size", "40"),
    ("dims", 7),
    ("dims", True),
]


@pytest.mark.parametrize(("name", "value"), WRONG, ids=[f"{n}={str(v)[:30]}" for n, v in WRONG])
def test_values_that_do_not_fit_are_said_and_not_used(folder: Path, name: str, value: Any) -> None:
    changed(folder, **{name: value})
    refused(folder, rf"sightline.json(: preprocessing| is not what sightline train writes: its '({name}|weights)')")


def test_each_value_is_wanted(folder: Path) -> None:
    about = json.loads((folder / FILE).read_text())
    for name in about:
        (folder / FILE).write_text(json.dumps({k: v for k, v in about.items() if k != name}))
        refused(folder, f"its '{name}' is missing or wrong")


@pytest.mark.parametrize("form", ["{}/evil.py:run", "evil:run"])
def test_code_never_runs_unasked(folder: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = folder / "ran"
    (folder / "evil.py").write_text(f"open({str(ran)!r}, 'w')\ndef run():\n    open({str(ran)!r}, 'w')\n")
    monkeypatch.chdir(folder)
    changed(folder, architecture=form.format(folder))
    refused(folder, "which is code that would run, so it is refused", TrustError)
    assert not ran.exists()


@pytest.mark.parametrize(
    "name", ["{}", ".", "owner/model", "{}/model.safetensors", "evil.pt", "nothing", "keras/ResNet50", "timm/nothing"]
)
def test_only_names_of_architectures_are_taken(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(folder)
    changed(folder, architecture=name.format(folder))  # the folder itself among them: a circle
    refused(folder, "no architecture that is known here|timm has no model 'nothing'")


def test_circles_of_two_bundles_end(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for file in folder.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    changed(folder, architecture=str(other))
    changed(other, architecture=str(folder))
    refused(folder, "no architecture that is known here")


def test_more_classes_than_the_weights_have_take_no_memory(folder: Path) -> None:
    changed(folder, classes=["x"] * 1_000_000)
    refused(folder, "names 'head' as the layer of its 1000000 classes, which does not fit its network or weights")


@pytest.mark.parametrize("head", ["", "nothing", "head.weight", "features", "__class__"])
def test_heads_that_are_none_are_said(folder: Path, head: str) -> None:
    changed(folder, heads=[head])
    refused(folder, f"names '{head}' as the layer")


def test_another_architectures_weights_are_said(folder: Path) -> None:
    changed(folder, architecture="small-vit")
    refused(folder, "do not fit|does not fit")


def test_no_heads_leave_the_architectures_own_number_of_classes(folder: Path) -> None:
    changed(folder, heads=[])
    refused(folder, "do not fit small-cnn: of another shape: head.weight")


def _with_config(folder: Path, config: dict[str, Any]) -> None:
    save_file({"classifier.weight": torch.zeros(2, 4)}, folder / "model.safetensors")
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    changed(folder, architecture="", config=config, heads=["classifier"], sha256=digest)


CONFIGS: list[tuple[dict[str, Any], str]] = [
    ({}, "knows no model type None"),
    ({"model_type": ["vit"]}, "knows no model type"),
    ({"model_type": "evil", "auto_map": {"AutoConfig": "evil.C"}}, "knows no model type 'evil'"),
    ({"model_type": "bert"}, "cannot be loaded as an image classifier"),
    ({"model_type": "vit", "hidden_size": "x"}, "cannot be loaded as an image classifier"),
    ({"model_type": "vit", "hidden_size": 1_200_000, "num_hidden_layers": 1}, "do not fit"),  # terabytes of weights
]


@pytest.mark.slow
@pytest.mark.parametrize(("config", "said"), CONFIGS, ids=[str(c)[:40] for c, _ in CONFIGS])
def test_settings_of_a_hugging_face_model_are_read_with_care(folder: Path, config: dict[str, Any], said: str) -> None:
    pytest.importorskip("transformers")
    _with_config(folder, config)
    refused(folder, said)


def test_trust_is_of_code_alone(folder: Path) -> None:
    changed(folder, sha256="0" * 64)
    refused(folder, "is not what was written", trust=True)
