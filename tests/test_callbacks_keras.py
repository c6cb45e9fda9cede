"""The callback in a real Keras fit, and the counterparts of tf-explain's seven callbacks."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sightline
from sightline.models.keras import import_keras
from watching import images, tags_of

keras = import_keras()
layers = keras.layers

pytestmark = [
    pytest.mark.skipif(keras.backend.backend() != "torch", reason="keras runs on another backend"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # Keras' own
]
DOC = (Path(__file__).resolve().parents[1] / "docs" / "callbacks.md").read_text(encoding="utf-8")
TABLE = re.findall(r"^\| `(\w+Callback)\(.*\)` \| `(.+?)` \|", DOC, re.MULTILINE)
SEVEN = {
    "ActivationsVisualizationCallback",
    "GradCAMCallback",
    "IntegratedGradientsCallback",
    "OcclusionSensitivityCallback",
    "SmoothGradCallback",
    "VanillaGradientsCallback",
    "GradientsInputsCallback",
}


class Noise(layers.Layer):
    """Draws noise also where nobody trains, from a seed that the net keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.seeds = keras.random.SeedGenerator(3)

    def call(self, x: Any) -> Any:
        return x + 0.01 * keras.random.normal((1,), seed=self.seeds)


def fresh() -> Any:
    keras.utils.set_random_seed(4)
    x = inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(6, 3, activation="relu", name="first")(x)
    x = layers.BatchNormalization()(x)
    x = layers.Dropout(0.3)(Noise()(x))
    x = layers.Conv2D(6, 3, activation="relu", name="second")(x)
    x = layers.GlobalAveragePooling2D()(x)
    net = keras.Model(inputs, layers.Dense(3, activation="softmax")(layers.Dropout(0.2)(x)))
    net.compile("adam", "sparse_categorical_crossentropy")
    return net


def fitted(net: Any, callbacks: list[Any], epochs: int = 3, **options: Any) -> Any:
    rng = np.random.default_rng(0)
    x, y = rng.random((24, 16, 16, 3), dtype=np.float32), np.arange(24) % 3
    net.fit(x, y, epochs=epochs, batch_size=8, callbacks=callbacks, verbose=0, **options)
    return net


def watched(out: Path, *args: Any, **options: Any) -> Any:
    return sightline.watch(images(2), *args, **({"out": out, "tensorboard": False} | options))


def epochs_in(out: Path) -> list[int]:
    return sorted(int(p.stem.removeprefix("epoch_")) for p in out.glob("epoch_*.png"))


def test_it_draws_before_the_training_every_n_epochs_and_after_the_last(tmp_path: Path) -> None:
    watch = watched(tmp_path, every=2, labels=["a", "b", "c"], target=["b", "c"], tensorboard=tmp_path / "logs")
    callback = sightline.keras_callback(watch)
    assert isinstance(callback, keras.callbacks.Callback)
    fitted(fresh(), [callback])
    assert epochs_in(tmp_path) == [0, 2, 3]
    assert [e.step for e in tags_of(tmp_path / "logs")["explanations/grad_cam"]] == [0, 2, 3]
    index = json.loads((tmp_path / "frames" / "index.json").read_text())["images"]
    assert index["image_2"]["epochs"]["3"]["explained"][0] == "c"


def test_the_same_weights_come_out_bit_for_bit(tmp_path: Path) -> None:
    watch = watched(tmp_path, "grad_cam,smooth_grad,occlusion", parameters={"window": 8, "stride": 8})
    with_it, without = (fitted(fresh(), c) for c in ([sightline.keras_callback(watch)], []))
    pairs = zip(with_it.variables, without.variables, strict=True)
    assert all(np.array_equal(keras.ops.convert_to_numpy(a), keras.ops.convert_to_numpy(b)) for a, b in pairs)
    assert sum("seed" in v.path for v in with_it.variables) == 3
    assert epochs_in(tmp_path) == [0, 1, 2, 3]


def test_a_stopped_training_draws_its_last_epoch_before_older_weights_come_back(tmp_path: Path) -> None:
    for number, order in enumerate((1, -1)):
        stop = keras.callbacks.EarlyStopping("loss", patience=1, min_delta=100, restore_best_weights=True)
        watch = watched(tmp_path / str(number), every=50, target=1)
        net = fitted(fresh(), [sightline.keras_callback(watch), stop][::order], 20)
        assert epochs_in(tmp_path / str(number)) == [0, 2]
        before = (tmp_path / str(number) / "epoch_0002.png").read_bytes()
        watch.draw(net, 2)
        assert (tmp_path / str(number) / "epoch_0002.png").read_bytes() != before


def test_a_later_fit_continues_from_its_initial_epoch(tmp_path: Path) -> None:
    net, callback = fresh(), sightline.keras_callback(watched(tmp_path))
    fitted(net, [callback], 1)
    fitted(net, [callback], 3, initial_epoch=1)
    assert epochs_in(tmp_path) == [0, 1, 2, 3]


def test_the_table_has_all_seven() -> None:
    assert {name for name, _ in TABLE} == SEVEN


@pytest.mark.parametrize(("theirs", "ours"), TABLE)
def test_each_of_tf_explains_callbacks_has_its_counterpart(tmp_path: Path, theirs: str, ours: str) -> None:
    options = eval(f"dict({ours})", {"grey": 0.5})
    watch = watched(tmp_path, tensorboard=tmp_path / "logs", **({"target": 1} | options))
    fitted(fresh(), [sightline.keras_callback(watch)], 1)
    (method,) = watch.methods
    assert f"explanations/{method}" in tags_of(tmp_path / "logs")
    moments = json.loads((tmp_path / "frames" / "index.json").read_text())["images"]["image_1"]["epochs"]
    assert [m["drawn"][method]["why"] for m in moments.values()] == [None, None]
    with Image.open(tmp_path / "strip_image_1.png") as strip:
        assert strip.width > 3 * 240


@pytest.mark.parametrize("method", ["lime", "score_cam", "deep_lift", "smallest_flip"])
def test_any_method_will_do(tmp_path: Path, method: str) -> None:
    small = {"lime": {"samples": 20}}.get(method, {})
    watch = watched(tmp_path, method, parameters=small)
    assert watch(fresh(), 0) is not None
    moment = json.loads((tmp_path / "frames" / "index.json").read_text())["images"]["image_1"]["epochs"]["0"]
    why = moment["drawn"][method]["why"]
    assert why is None or why.startswith("refused: ")
