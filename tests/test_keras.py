"""Keras models: every way in which people have them, against a torch twin with the same weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import zipfile

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sightline
from sightline.errors import ModelError, TrustError
from sightline.geometry import restore
from sightline.methods import METHODS
from sightline.models.keras import import_keras
from sightline.models.layouts import Layout

keras = import_keras()
layers = keras.layers
# Keras' own, of how a model was saved or built; nothing of ours warns here.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")

X = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Twin(nn.Module):
    """The torch net that `keras_twin` is in Keras."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1)
        self.act, self.head = nn.ReLU(), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.max_pool2d(torch.relu(self.conv1(x)), 2)
        return torch.softmax(self.head(self.act(self.conv2(x)).mean((2, 3))), 1)


def body(first: bool = False) -> list:
    how = {"data_format": "channels_first"} if first else {}
    return [
        layers.Conv2D(6, 3, padding="same", activation="relu", name="conv1", **how),
        layers.MaxPooling2D(name="pool", **how),
        layers.Conv2D(8, 3, padding="same", activation="relu", name="conv2", **how),
        layers.GlobalAveragePooling2D(name="gap", **how),
        layers.Dense(4, activation="softmax", name="head"),
    ]


def twin_weights(net, twin: Twin):
    for name in ("conv1", "conv2", "head"):
        weight, bias = (p.detach().numpy() for p in getattr(twin, name).parameters())
        found = next(part for part in net._flatten_layers() if part.name == name)
        found.set_weights([weight.transpose(2, 3, 1, 0) if weight.ndim == 4 else weight.T, bias])
    return net


def sequential():
    return keras.Sequential([keras.Input((16, 16, 3)), *body()])


def functional():
    x = given = keras.Input((16, 16, 3))
    for layer in body():
        x = layer(x)
    return keras.Model(given, x)


def channels_first():
    return keras.Sequential([keras.Input((3, 16, 16)), *body(first=True)])


def nested():
    *base, gap, head = body()
    inner = keras.Sequential([keras.Input((16, 16, 3)), *base], name="base")
    return keras.Sequential([keras.Input((16, 16, 3)), inner, gap, head])


@keras.saving.register_keras_serializable("sightline_tests")
class Subclassed(keras.Model):
    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.body = body()

    def call(self, x, training=False):
        for layer in self.body:
            x = layer(x)
        return x


def subclassed():
    net = Subclassed()
    net(np.zeros((1, 16, 16, 3), np.float32))
    return net


KINDS = {f.__name__: f for f in (sequential, functional, channels_first, nested, subclassed)}


@pytest.fixture(scope="module")
def twin() -> Twin:
    torch.manual_seed(3)
    return Twin().eval()


def maps(model, method: str, **more) -> list[np.ndarray]:
    few = {k: v for k, v in {"samples": 3, "steps": 4}.items() if k in METHODS[method].parameters}
    return [e.attribution for e in sightline.explain(model, X, method, 1, **few, **more)]


# By default the layers before the last differ: Keras' have their ReLUs inside. And class 1 is never the answer here.
OTHERWISE = {"attn_lrp", "refine_cam", "smallest_flip", "anchors"}


@pytest.mark.parametrize("method", [n for n, m in METHODS.items() if m.family != "attention" and n not in OTHERWISE])
def test_a_keras_net_and_its_torch_twin_give_the_same_maps(method, twin):
    net = sightline.load(twin_weights(sequential(), twin))
    ours = sightline.load(twin, preprocessing=net.preprocessing)  # uniform baselines depend on it
    layers = ({"layer": "act"}, {"layer": "conv2"}) if METHODS[method].fuses else ({}, {})
    for a, b in zip(maps(ours, method, **layers[0]), maps(net, method, **layers[1]), strict=True):
        assert np.abs(a - b).max() < 1e-5
        assert a.any()


def test_an_anchor_is_the_twins(twin):
    net = sightline.load(twin_weights(sequential(), twin))
    ours = sightline.load(twin, preprocessing=net.preprocessing)
    found = [sightline.explain(m, X, "anchors", "top1", segments="grid", count=16) for m in (ours, net)]
    for a, b in zip(*found, strict=True):
        assert np.array_equal(a.attribution, b.attribution)
        assert a.notes == b.notes


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["grad_cam", "guided_backprop", "deconvnet", "gradient", "cam"])
def test_every_kind_of_keras_model_gives_the_twins_maps(kind, method, twin):
    net = twin_weights(KINDS[kind](), twin)
    for a, b in zip(maps(twin, method), maps(net, method), strict=True):
        assert np.abs(a - b).max() < 1e-5


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("kind", ["sequential", "functional", "channels_first", "nested"])
def test_a_reloaded_model_gives_the_same_maps(kind, suffix, twin, tmp_path):
    net = twin_weights(KINDS[kind](), twin)
    net.save(tmp_path / f"net{suffix}")
    loaded = sightline.load(str(tmp_path / f"net{suffix}"))
    assert loaded.weights == f"net{suffix}"
    for a, b in zip(maps(twin, "grad_cam"), maps(loaded, "grad_cam"), strict=True):
        assert np.abs(a - b).max() < 1e-5


def test_layers_come_in_execution_order_with_the_default_marked():
    found = sightline.load(sequential()).layers()
    assert [layer.name for layer in found] == ["conv1", "pool", "conv2", "gap", "head"]
    assert [layer.name for layer in found if layer.default] == ["conv2"]
    assert found[2].layout == Layout("channels_last", (8, 8))
    assert sightline.load(channels_first()).layers()[2].layout == Layout("channels_first", (8, 8))


def test_layers_of_a_nested_base_are_found_by_their_own_names(twin):
    model = sightline.load(twin_weights(nested(), twin))
    assert model.default_layer() == "base"
    inner, outer = (sightline.explain(model, X, "grad_cam", layer=name)[0] for name in ("conv2", "base"))
    assert np.array_equal(inner.attribution, outer.attribution)


def test_a_name_that_two_parts_share_is_prefixed():
    one, two = (keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(3, 1, name="conv")], name=n) for n in "ab")
    net = keras.Sequential([keras.Input((8, 8, 3)), one, two, layers.Flatten(), layers.Dense(2)])
    names = [layer.name for layer in sightline.load(net).layers()]
    assert names[:4] == ["a.conv", "a", "b.conv", "b"]


def test_a_shared_layer_is_read_call_by_call():
    given = keras.Input((8, 8, 3))
    relu = layers.ReLU(name="relu")
    x = relu(layers.Conv2D(4, 3, name="one")(given))
    x = relu(layers.Conv2D(4, 3, name="two")(x))
    model = sightline.load(keras.Model(given, layers.Dense(2)(layers.GlobalAveragePooling2D()(x))))
    assert [layer.name for layer in model.layers()][:4] == ["one", "relu", "two", "relu@2"]
    assert model.default_layer() == "relu@2"
    (found,) = sightline.explain(model, torch.rand(1, 3, 8, 8), "guided_backprop")
    assert found.coverage.changed == 2


def test_transfer_learning_on_an_application_works_without_rebuilding_it():
    base = keras.applications.MobileNetV2(weights=None, input_shape=(32, 32, 3), include_top=False)
    base.trainable = False
    head = [layers.GlobalAveragePooling2D(), layers.Dropout(0.5), layers.Dense(2, activation="softmax")]
    rescale = layers.Rescaling(1 / 127.5, offset=-1)
    model = sightline.load(keras.Sequential([keras.Input((32, 32, 3)), rescale, base, *head]))
    assert model.preprocessing.scale == 1  # it rescales by itself
    picture = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    e = sightline.explain(model, picture, "grad_cam", layer="block_5_expand_relu", target=1, relu=False)
    assert e.heatmap.shape == (40, 50)
    assert e.attribution.shape == (4, 4)
    assert e.attribution.any()


def test_softmax_and_sigmoid_heads_are_explained_at_the_logit(twin):
    sure = keras.Sequential([keras.Input((4, 4, 1)), layers.Flatten(), layers.Dense(1, activation="sigmoid")])
    sure.layers[-1].set_weights([np.full((16, 1), 50.0), np.zeros(1)])
    e = sightline.explain(sightline.load(sure), torch.ones(1, 1, 4, 4), "gradient")[0]
    assert np.allclose(e.attribution, 50)
    (ours,) = sightline.explain(twin, X[:1], "gradient")
    assert ours.score == pytest.approx(sightline.explain(twin_weights(sequential(), twin), X[:1], "gradient")[0].score)


def test_an_activation_layer_of_its_own_is_a_head_too():
    net = keras.Sequential([keras.Input((4, 4, 1)), layers.Flatten(), layers.Dense(3), layers.Softmax()])
    e = sightline.explain(net, torch.ones(1, 1, 4, 4), "gradient", 2)[0]
    assert np.allclose(e.attribution.ravel(), net.layers[-2].get_weights()[0][:, 2])


def test_a_series_goes_in_as_channels_by_length():
    how = {"padding": "same", "activation": "relu"}
    net = keras.Sequential([keras.Input((40, 1)), layers.Conv1D(5, 5, **how), layers.Flatten(), layers.Dense(3)])
    model = sightline.load(net)
    assert model.example_input().shape == (1, 1, 40)
    assert sightline.explain(model, torch.randn(1, 1, 40), "grad_cam")[0].heatmap.shape == (40,)


def test_the_users_model_is_left_as_it_was(twin):
    net = twin_weights(sequential(), twin)
    net.get_layer("conv1").trainable = False
    before = [(p.requires_grad, p.grad, p.detach().clone()) for p in net.parameters()]
    sightline.explain(net, X, ["grad_cam", "guided_backprop", "smooth_grad"], samples=2)
    for (wanted, _, value), p in zip(before, net.parameters(), strict=True):
        assert p.requires_grad == wanted
        assert p.grad is None
        assert torch.equal(p, value)
    assert not any(part._forward_hooks for part in net._flatten_layers())


def test_dropout_and_batch_normalisation_do_not_train():
    net = keras.Sequential([
        keras.Input((8, 8, 3)), layers.Conv2D(4, 3), layers.BatchNormalization(), layers.Dropout(0.9),
        layers.GlobalAveragePooling2D(), layers.Dense(2),
    ])  # fmt: skip
    x = torch.rand(1, 3, 8, 8)
    first, second = (sightline.explain(net, x, "gradient")[0].attribution for _ in range(2))
    assert np.array_equal(first, second)
    assert net.layers[1].moving_mean.numpy().any() == 0


# Files.


def test_a_lambda_layer_is_refused_by_name_unless_trusted(tmp_path):
    twice = layers.Lambda(lambda t: t * 2, name="twice")
    net = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 3), twice, layers.Flatten(), layers.Dense(2)])
    for name in ("net.keras", "net.h5"):
        net.save(tmp_path / name)
        with pytest.raises(TrustError, match=r"'twice'.*--trust"):
            sightline.load(str(tmp_path / name))
    with pytest.raises(TrustError, match="twice"):
        sightline.load(str(_inside_another(tmp_path)))
    trusted = sightline.load(str(tmp_path / "net.keras"), trust=True)
    assert sightline.explain(trusted, torch.rand(1, 3, 8, 8), "gradient")[0].attribution.any()


def _inside_another(folder):
    inner = keras.Sequential([keras.Input((8, 8, 3)), layers.Lambda(lambda t: t * 2, name="twice")])
    keras.Sequential([keras.Input((8, 8, 3)), inner, layers.Flatten()]).save(folder / "outer.keras")
    return folder / "outer.keras"


class Own(layers.Layer):
    def call(self, x):
        return x + 1


@pytest.mark.parametrize("name", ["net.keras", "net.h5"])
def test_a_custom_class_is_named_with_the_way_to_pass_it(name, tmp_path):
    net = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 3), Own(), layers.Flatten(), layers.Dense(2)])
    net.save(tmp_path / name)
    with pytest.raises(ModelError, match=r"'Own'.*custom_objects="):
        sightline.load(str(tmp_path / name))
    model = sightline.load(str(tmp_path / name), custom_objects={"Own": Own})
    assert sightline.explain(model, torch.rand(1, 3, 8, 8), "gradient")[0].attribution.any()


def _bad_files(folder):
    (folder / "text.h5").write_text("no")
    (folder / "empty.keras").write_bytes(b"")
    with zipfile.ZipFile(folder / "other.keras", "w") as archive:
        archive.writestr("config.json", json.dumps({"class_name": "Nothing", "config": {}}))
    sequential().save_weights(folder / "net.weights.h5")
    return {
        "text.h5": "no Keras file",
        "empty.keras": "no Keras file",
        "other.keras": "Nothing|cannot read",
        "net.weights.h5": "without an architecture.*FACTORY",
        "missing.h5": "does not exist",
    }


def test_bad_files_get_one_line_that_says_what_to_do(tmp_path):
    for name, words in _bad_files(tmp_path).items():
        with pytest.raises(ModelError, match=words) as caught:
            sightline.load(str(tmp_path / name))
        assert "\n" not in str(caught.value)


FACTORY = """
    import keras
    def make(filters=6):
        return keras.Sequential([
            keras.Input((16, 16, 3)),
            keras.layers.Conv2D(filters, 3, name="conv"), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(4),
        ])
    def other():
        return make(7)
"""


def test_weights_alone_go_with_a_factory(tmp_path):
    (tmp_path / "net.py").write_text(textwrap.dedent(FACTORY))
    made = sightline.load(f"{tmp_path}/net.py:make", weights=None)
    bare = made.module.inner
    bare.save_weights(tmp_path / "net.weights.h5")
    loaded = sightline.load(f"{tmp_path}/net.py:make", weights=tmp_path / "net.weights.h5")
    assert torch.allclose(loaded.module(X), made.module(X))
    with pytest.raises(ModelError, match=r"do not fit.*3, 3, 3, 7"):
        sightline.load(f"{tmp_path}/net.py:other", weights=tmp_path / "net.weights.h5")
    with pytest.raises(ModelError, match="does not exist"):
        sightline.load(f"{tmp_path}/net.py:make", weights=tmp_path / "missing.h5")


def test_of_two_inputs_one_is_fixed():
    a, b = keras.Input((8, 8, 3), name="picture"), keras.Input((4,), name="age")
    net = keras.Model([a, b], layers.Dense(2)(layers.Concatenate()([layers.Flatten()(a), b])))
    with pytest.raises(ModelError, match=r"picture \(8, 8, 3\), age \(4,\).*fixed={'age': value}"):
        sightline.load(net)
    for wrong in ({"agee": 1}, (np.ones((1, 4)),)):
        with pytest.raises(ModelError, match=r"fixed= holds .*picture, age"):
            sightline.load(net, fixed=wrong)
    age = np.ones((1, 4), np.float32)
    model = sightline.load(net, fixed={"age": age})
    x = torch.rand(2, 3, 8, 8)
    found = sightline.explain(model, x, "gradient", 1)
    assert found[1].score == pytest.approx(float(net([x.movedim(1, -1), torch.ones(2, 4)])[1, 1]), abs=1e-5)


def test_a_model_that_was_never_called_is_built_without_its_layers_being_counted_twice():
    net = keras.Sequential([layers.Conv2D(4, 3), layers.ReLU(), layers.GlobalAveragePooling2D(), layers.Dense(2)])
    model = sightline.load(net)
    picture = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    assert sightline.explain(model, picture, "grad_cam").layer.startswith("re_lu")
    assert not any("@" in layer.name for layer in model.layers())


def test_hooks_come_back_where_the_first_call_fails():
    net = keras.Sequential([layers.Conv2D(4, 9), layers.Flatten(), layers.Dense(2)])
    handle = net.layers[0].register_forward_hook(lambda *_: None)
    with pytest.raises(ModelError, match="forward pass fails"):
        sightline.explain(net, torch.rand(1, 3, 4, 4), "gradient")
    assert handle.id in net.layers[0]._forward_hooks


def test_arithmetic_on_the_input_is_the_models_own_preprocessing():
    given = keras.Input((32, 32, 3))
    scaled = keras.applications.mobilenet_v2.preprocess_input(given)
    net = keras.Model(given, layers.Dense(2)(layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(scaled))))
    assert sightline.load(net).preprocessing.scale == 1
    picture = np.full((32, 32, 3), 200, np.uint8)
    (found,) = sightline.predict(net, [picture])
    wanted = net(picture[None].astype("float32"))[0]
    assert found[0]["logit"] == pytest.approx(float(wanted.max()), abs=1e-4)


def test_an_input_without_channels_is_a_grey_picture_unless_the_model_is_one_of_series():
    net = keras.Sequential([keras.Input((28, 28)), layers.Flatten(), layers.Dense(3)])
    model = sightline.load(net)
    assert model.input_dims == 2
    picture = np.random.default_rng(0).integers(0, 255, (56, 56), dtype=np.uint8)
    assert sightline.explain(model, picture, "gradient").heatmap.shape == (56, 56)
    series = keras.Sequential([keras.Input((28, 28)), layers.Conv1D(4, 3), layers.Flatten(), layers.Dense(3)])
    assert sightline.load(series).input_dims == 1
    with pytest.raises(ModelError, match="takes vectors"):
        sightline.load(keras.Sequential([keras.Input((784,)), layers.Dense(3)]))


def test_several_outputs_have_their_names():
    given = keras.Input((8, 8, 3))
    flat = layers.Flatten()(given)
    net = keras.Model(given, {"kind": layers.Dense(3, name="kind")(flat), "age": layers.Dense(1, name="age")(flat)})
    with pytest.raises(ModelError, match="output="):
        sightline.explain(net, torch.rand(1, 3, 8, 8), "gradient")
    assert len(sightline.predict(sightline.load(net, output="kind"), torch.rand(1, 3, 8, 8))[0]) == 3


def test_weights_that_come_with_a_whole_model_are_loaded_or_refused(twin, tmp_path):
    twin_weights(sequential(), twin).save(tmp_path / "net.keras")
    other = sequential()
    other.save_weights(tmp_path / "other.weights.h5")
    loaded = sightline.load(f"{tmp_path}/net.keras@{tmp_path}/other.weights.h5")
    assert torch.allclose(loaded.module(X), sightline.load(other).module(X))
    with pytest.raises(ModelError, match="does not exist"):
        sightline.load(tmp_path / "net.keras", weights=tmp_path / "missing.h5")
    with pytest.raises(ModelError, match="load them into it yourself"):
        sightline.load(other, weights=tmp_path / "other.weights.h5")


def test_a_truncated_file_is_said_to_be_one(twin, tmp_path):
    twin_weights(sequential(), twin).save(tmp_path / "net.h5")
    whole = (tmp_path / "net.h5").read_bytes()
    (tmp_path / "half.h5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=r"half.h5 is a damaged or truncated"):
        sightline.load(tmp_path / "half.h5")


def test_the_logit_is_found_through_mixed_precision():
    how = {"dtype": "mixed_float16"}
    flat, head = layers.Flatten(**how), layers.Dense(3, activation="softmax", **how)
    (found,) = sightline.explain(
        keras.Sequential([keras.Input((4, 4, 1)), flat, head]), torch.ones(1, 1, 4, 4), "gradient"
    )
    assert not found.notes
    assert found.predictions[0]["logit"] != found.predictions[0]["probability"]


def test_float64_is_refused_with_the_reason():
    with pytest.raises(ModelError, match="float32 only"):
        sightline.explain(sequential(), X, "gradient", precision="float64")


# keras.applications.


@pytest.mark.parametrize("name", ["VGG16", "MobileNetV2", "DenseNet121", "MobileNetV3Small", "ResNet50"])
def test_the_preprocessing_is_the_applications_own(name):
    from sightline.models.keras_zoo import preprocessing_of

    make = getattr(keras.applications, name)
    usual = sightline.Preprocessing(resize=(24, 24), crop=None, fit="squash")
    how = preprocessing_of(make, usual)
    pixels = np.random.default_rng(1).integers(0, 255, (24, 24, 3), dtype=np.uint8)
    x, _ = _model(how).prepare(_model(how).read(pixels))
    wanted = sys.modules[make.__module__].preprocess_input(pixels.astype("float32")[None])[0]
    assert np.abs(wanted.transpose(2, 0, 1) - x.numpy()).max() < 1e-4
    assert np.array_equal(restore(x, how), pixels)


def _model(how):
    from sightline.models.model import Model

    return Model(nn.Conv2d(3, 2, 1), "any", how)


def test_an_application_by_name_has_class_names_and_random_weights_on_request():
    import random

    before = random.getstate(), torch.get_rng_state()
    model = sightline.load("keras/mobilenetv3small", weights=None)
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
    assert model.name == "keras/MobileNetV3Small"
    assert model.labels.name(282) == "tiger cat"
    assert sightline.load("keras/MobileNetV3Small", weights=None).weights_hash == model.weights_hash
    assert model.layers()
    with pytest.raises(ModelError, match="Did you mean VGG16"):
        sightline.load("keras/VGG166")


# Other backends, each in a process of its own, for a process has one.

QUICKLY = "--xla_backend_optimization_level=0"  # each operation is compiled for a few calls
BRIDGE = """
    import sys, numpy as np, torch, sightline
    model = sightline.load(sys.argv[1])
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    found = {}
    for method in sys.argv[2].split(","):
        try:
            found[method] = np.stack([e.attribution for e in sightline.explain(model, x, method, 1, **(
                {"samples": 3} if method == "smooth_grad" else {"steps": 4} if "integrated" in method else {}))])
        except sightline.errors.RefusedError as error:
            print(method, error)
    print([(l.name, l.kind) for l in model.layers()], model.default_layer())
    np.savez(sys.argv[3], **found)
"""


@pytest.mark.slow
def test_jax_gives_what_torch_gives_through_the_bridge(twin, tmp_path):
    twin_weights(nested(), twin).save(tmp_path / "net.keras")
    methods = ["gradient", "integrated_gradients", "smooth_grad", "grad_cam", "layer_cam", "cam", "guided_backprop"]
    script = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(BRIDGE)]
    ran = subprocess.run(
        [*script, str(tmp_path / "net.keras"), ",".join(methods), str(tmp_path / "out.npz")],
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "XLA_FLAGS": QUICKLY},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "guided_backprop guided_backprop: the model's ReLUs cannot be seen" in ran.stdout
    assert "('pool', 'MaxPooling2D')" in ran.stdout
    with np.load(tmp_path / "out.npz") as found:
        assert set(found.files) == set(methods) - {"guided_backprop"}
        for method in found.files:
            assert np.abs(found[method] - np.stack(maps(twin, method))).max() < 1e-5, method


def test_a_backend_that_is_not_installed_is_named(tmp_path):
    sequential().save(tmp_path / "net.keras")
    code = "import sys, sightline\ntry: sightline.load(sys.argv[1])\nexcept sightline.errors.ModelError as e: print(e)"
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(tmp_path / "net.keras")],
        env={**os.environ, "KERAS_BACKEND": "tensorflow"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "KERAS_BACKEND=torch" in ran.stdout, ran.stdout + ran.stderr
