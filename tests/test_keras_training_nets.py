"""The recorded nets in Keras, heads of keras.applications, the presets, and Keras on another backend."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

import keras_jobs as made
import sightline
from keras_jobs import arrays, data, job, keras, layers
from sightline.errors import ModelError
from sightline.models.adapted import bare
from sightline.models.keras import quiet
from sightline.models.keras_architectures import mnist1d_cnn, vgg7
from sightline.training.keras_fit import fit
from sightline.training.keras_heads import freeze, logits_only, tail_of, with_head
from sightline.training.presets import GENERATED, preset
from sightline.training.run import train
from trainings import few_digits, undrawn

_undrawn = pytest.fixture(autouse=True)(undrawn)
DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "keras"
KEYS = ("name", "filters", "kernel_size", "padding", "units", "pool_size", "strides", "data_format", "use_bias")
recorded = [pytest.mark.shared, pytest.mark.skipif(not DATA.is_dir(), reason="the recorded models are not here")]


def described(net) -> list[tuple]:
    """Return each layer's kind and what it computes with, without regularisers and seeds."""
    found = []
    for layer in net.layers:
        config = layer.get_config()
        drawn = [config.get(k, {}).get("class_name") for k in ("kernel_initializer", "bias_initializer")]
        spread = config.get("kernel_initializer", {}).get("config", {}).get("stddev")
        plain = {k: config[k] for k in KEYS if k in config} | {"activation": config.get("activation")}
        found.append((type(layer).__name__, plain, drawn, spread, tuple(layer.output.shape)))
    return found


@pytest.mark.parametrize(("make", "file"), [(vgg7, "HMT.h5"), (mnist1d_cnn, "MNIST1D.h5")])
@pytest.mark.parametrize("_", [pytest.param("", marks=recorded)])
def test_the_recorded_nets_are_these(make, file, _):
    with quiet():
        want, net = keras.models.load_model(DATA / file, compile=False), make()
    assert described(net) == described(want)
    assert net.input_shape == want.input_shape
    assert net.count_params() == want.count_params()


@pytest.mark.parametrize(("name", "file"), [("vgg7", "HMT.h5"), ("mnist1d-cnn", "MNIST1D.h5")])
@pytest.mark.parametrize("_", [pytest.param("", marks=recorded)])
def test_their_weights_files_fit(name, file, _):
    found, want = sightline.load(f"keras/{name}@{DATA / file}"), sightline.load(DATA / file)
    x = found.example_input()
    assert torch.equal(found.module(x), want.module(x))
    assert found.weights == file
    assert sightline.load(f"{name}").preprocessing == found.preprocessing


@pytest.mark.parametrize(
    ("make", "count", "shape"), [(vgg7, 66088, (1, 224, 224, 3)), (mnist1d_cnn, 13960, (1, 40, 1))]
)
def test_they_have_as_many_weights_as_recorded(make, count, shape):
    net = make()
    assert net.count_params() == count
    assert net.input_shape[1:] == shape[1:]
    assert all(v.regularizer is None for v in net.weights)
    assert make(3).output_shape == (None, 3)


def test_weights_of_another_number_of_classes_open(tmp_path):
    net = mnist1d_cnn(4)
    with quiet():
        net.save_weights(tmp_path / "four.weights.h5")
    found = sightline.load("keras/mnist1d-cnn", weights=tmp_path / "four.weights.h5")
    assert_array_equal(arrays(bare(found.module))[-2], arrays(net)[-2])
    assert "keras/mnist1d-cnn" in [f"keras/{n}" for n in made_names()]


def made_names() -> list[str]:
    from sightline.models.keras_zoo import names

    return names()


def test_random_ones_are_drawn_from_the_seed():
    first, again, other = (sightline.load("keras/mnist1d-cnn", seed=s).weights_hash for s in (1, 1, 2))
    assert first == again != other


@pytest.mark.slow
def test_mnist1d_is_trained_by_its_preset(tmp_path, monkeypatch):
    monkeypatch.setitem(GENERATED, "mnist1d", lambda seed: few_digits(640, 100))
    asked = replace(preset("mnist1d"), model="keras/mnist1d-cnn", epochs=2, steps_per_epoch=20)
    found = [train("mnist1d", out=tmp_path / n, settings=asked, report=False) for n in "ab"]
    assert found[0].model.weights_hash == found[1].model.weights_hash
    assert found[0].test_accuracy > 0.13
    assert found[0].fitted.about["features_cached"] is False
    assert sightline.load(tmp_path / "a").dims == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["MobileNetV3Small", "MobileNet", "EfficientNetB0"])
def test_heads_of_applications(name):
    with quiet():
        found, end = with_head(sightline.load(f"keras/{name}", weights=None), 2, 0)
        with logits_only(end.closing), freeze(found, "features") as trunk:
            assert trunk.layers - trunk.frozen == 1
            assert tail_of(found, trunk) is not None
        assert found.module(found.example_input()).sum().item() == pytest.approx(1)


@pytest.mark.slow
def test_vgg16_learns_its_dense_layers(monkeypatch):
    """What is drawn does not matter here, and takes seconds for so many."""

    def nought(self, shape, dtype=None):
        return keras.ops.zeros(shape, dtype)

    monkeypatch.setattr(keras.initializers.GlorotUniform, "__call__", nought)
    with quiet():
        net = keras.applications.VGG16(weights=None)
        found, end = with_head(made.load(net), 2, 0)
    with freeze(found, "features") as trunk:
        net = bare(found.module)
        counts = [sum(v.value.numel() for v in vs) for vs in (net.trainable_variables, net.non_trainable_variables)]
    assert (end.head, trunk.learned) == ("predictions", ("fc1", "fc2", "predictions"))
    assert counts == [119554050, 14714688]


# --- classes of one's own, other backends ---------------------------------------------------------------------


class Doubled(layers.Layer):
    """A layer that is not Keras' own."""

    def call(self, x):
        return 2 * x


def test_a_bundle_with_a_class_of_ones_own_says_how_to_open_it(tmp_path):
    from sightline.models.bundle import write_bundle

    net = made.functional([layers.Conv2D(4, 3), Doubled(), layers.GlobalAveragePooling2D(), layers.Dense(5)])
    learned = fit(job(net, tmp_path / "run", on=data(), epochs=1))
    write_bundle(learned.model, "file.py:net", tmp_path / "run")
    with pytest.raises(ModelError, match=r"needs your own class .*Doubled.*custom_objects"):
        sightline.load(tmp_path / "run")
    found = sightline.load(tmp_path / "run", custom_objects={"Doubled": Doubled})
    x = found.example_input()
    assert torch.allclose(found.module(x), learned.model.module(x))
    assert np.isfinite(arrays(bare(found.module))[0]).all()


def test_keras_on_another_backend_is_refused(tmp_path):
    pytest.importorskip("jax")
    program = (
        "import keras_jobs as made\nfrom pathlib import Path\nfrom sightline.errors import ModelError\n"
        "from sightline.training.keras_fit import fit\n"
        "net = made.keras.Sequential([made.keras.Input((12, 12, 3)), made.layers.Flatten(), made.layers.Dense(5)])\n"
        "try:\n    fit(made.job(net, Path('run')))\nexcept ModelError as error:\n    print(error)\n"
    )
    env = os.environ | {
        "KERAS_BACKEND": "jax",
        "PYTHONPATH": f"{os.environ.get('PYTHONPATH', '')}:{Path(__file__).parent}",
    }
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env, cwd=tmp_path)
    assert "Keras runs on jax here; set KERAS_BACKEND=torch" in done.stdout, done.stderr[-800:]
