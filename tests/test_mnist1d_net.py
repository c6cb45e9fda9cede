"""The embedded net of MNIST-1D, the signals that the app draws for it, and where a template lies in them."""

from __future__ import annotations

import doctest
import importlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

import sightline
from sightline.arrays import read_upload
from sightline.cli.listing import _SOURCES
from sightline.demo.mnist1d import _MEAN, _SPREAD, _distorted, _How, make_mnist1d, mnist1d_signal, mnist1d_templates
from sightline.demo.templates import fit_template
from sightline.errors import ImageError, InputError, ModelError, ParameterError
from sightline.evaluation.measure import measure
from sightline.models.load import load
from sightline.models.model import Model

HASH = "fc2539c143f5b397"


@pytest.fixture(scope="module")
def net() -> Model:
    return load("demo/mnist1d")


def test_the_net_is_the_embedded_one(net: Model) -> None:
    assert net.weights_hash == HASH == load("demo/mnist1d").weights_hash
    assert (tuple(net.labels), net.input_dims, net.input_size, net.weights) == (
        tuple("0123456789"),
        1,
        (40,),
        "embedded",
    )
    assert "demo/mnist1d" in _SOURCES["embedded"]()
    file = Path(sightline.__file__).parent / "demo" / "weights" / "mnist1d.safetensors"
    with safe_open(file, "pt") as packed:
        assert json.loads(packed.metadata()["accuracy"])["accuracy, 1000 test signals"] == pytest.approx(0.881)


def test_loading_it_draws_no_random_number() -> None:
    before = torch.random.get_rng_state()
    load("demo/mnist1d")
    assert torch.equal(torch.random.get_rng_state(), before)


def test_it_names_the_published_test_signals_and_fresh_ones(net: Model) -> None:
    data = make_mnist1d()
    fresh = [(mnist1d_signal(digit, seed)[0], digit) for digit in range(10) for seed in range(50)]
    for x, y in ((data.x_test, data.y_test), (np.stack([v for v, _ in fresh]), np.array([d for _, d in fresh]))):
        with torch.inference_mode():
            said = net.module(torch.from_numpy(x).float().unsqueeze(1)).argmax(1).numpy()
        assert (said == y).mean() >= 0.87


def test_its_maps_lie_on_the_digit_and_controls_do_not(net: Model) -> None:
    shares = {}
    for method in ("integrated_gradients", "constant"):
        drawn = [mnist1d_signal(digit, 1) for digit in range(10)]
        shares[method] = np.mean(
            [
                measure(net, sightline.explain(net, x, method, p.digit), [x], "energy_pointing_game", truth=p.at[None])[
                    "energy_pointing_game"
                ]
                for x, p in drawn
            ]
        )
    assert shares["integrated_gradients"] > 0.6
    assert shares["constant"] == pytest.approx(np.mean([p.at.mean() for _, p in drawn]))


def test_a_series_of_another_length_is_refused_in_one_sentence(net: Model) -> None:
    with pytest.raises(ImageError, match=r"has 39 values a channel; demo/mnist1d takes 40: cut it, fill it up, or"):
        sightline.explain(net, np.zeros(39), "gradient")


def test_a_wrong_name_suggests_it() -> None:
    with pytest.raises(ModelError, match="demo/mnist1d"):
        load("demo/mnist1")


def test_a_drawn_signal_is_standardised_as_the_published_ones() -> None:
    rng, digits = np.random.RandomState(42), mnist1d_templates().x
    raw = np.stack([_distorted(rng, digits[label], _How())[0] for label in np.repeat(np.arange(10), 500)])
    assert (raw.mean(), raw.std()) == pytest.approx((_MEAN, _SPREAD), rel=1e-12)


@pytest.mark.parametrize("digit", range(10))
def test_a_signal_is_drawn_alike_and_follows_its_digit(digit: int) -> None:
    values, placed = mnist1d_signal(digit, 5)
    np.testing.assert_array_equal(values, mnist1d_signal(digit, 5)[0])
    assert (values != mnist1d_signal(digit, 6)[0]).any()
    assert values.shape == placed.at.shape == placed.clean.shape == (40,)
    assert 6 <= placed.at.sum() <= 11
    np.testing.assert_array_equal(np.isnan(placed.clean), ~placed.at)
    # what is left of the noise on the digit: 0.02 at each of 72 points, in units of the spread
    assert np.abs(values - placed.clean)[placed.at].max() < 5 * 0.02 / _SPREAD
    np.testing.assert_array_equal(placed.at, mnist1d_signal((digit + 1) % 10, 5)[1].at)


def test_a_drawn_signal_is_none_of_the_published() -> None:
    data = make_mnist1d()
    known = np.concatenate([data.x, data.x_test])
    for digit in range(10):
        assert np.abs(known - mnist1d_signal(digit, 42)[0]).max(1).min() > 0.1


def test_a_template_is_fitted_where_it_was_drawn() -> None:
    overlaps = []
    for seed in range(30):
        values, drawn = mnist1d_signal(seed % 10, seed)
        fitted = fit_template(3 + 7 * values - 0.2 * np.arange(40), seed % 10)
        overlaps.append((fitted.at & drawn.at).sum() / (fitted.at | drawn.at).sum())
        assert (np.isnan(fitted.clean) == ~fitted.at).all()
    assert np.mean(overlaps) > 0.85


def test_a_fitted_template_is_the_signal_where_there_is_no_noise() -> None:
    _, drawn = mnist1d_signal(3, 8)
    values = np.nan_to_num(drawn.clean, nan=0.0)
    fitted = fit_template(values, 3)
    np.testing.assert_allclose(fitted.clean[fitted.at & drawn.at], values[fitted.at & drawn.at], atol=0.05)


def test_a_flat_signal_has_a_flat_template() -> None:
    fitted = fit_template(np.ones(40), 4)
    np.testing.assert_allclose(fitted.clean[fitted.at], 1.0, atol=1e-9)


def test_what_cannot_be_drawn_or_fitted_is_said() -> None:
    with pytest.raises(ParameterError, match="digit=10"):
        mnist1d_signal(10, 0)
    with pytest.raises(ParameterError, match="digit=-1"):
        fit_template(np.zeros(40), -1)
    for wrong in (np.zeros(10), np.zeros((1, 40)), np.full(40, np.nan), np.zeros(1000)):
        with pytest.raises(InputError, match="24 to 400 finite values"):
            fit_template(wrong, 1)


def packed(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def saved(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values, allow_pickle=True)
    return stream.getvalue()


@pytest.mark.parametrize(
    "data",
    [b"1\n2.5\n-3\n", b"value\n1\n2.5\n-3", b"1,2.5,-3\n", b"\xef\xbb\xbf1\t2.5\t-3", saved(np.array([1, 2.5, -3]))],
)
def test_an_upload_is_read_by_its_content(data: bytes) -> None:
    assert read_upload(io.BytesIO(data), "any", 10).ravel().tolist() == [1, 2.5, -3]
    assert read_upload(io.BytesIO(packed(x=np.arange(3))), "any", 10).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x89PNG\r\n\x1a\n\x00\xff", "not text in UTF-8"),
        (b"", "holds no numbers"),
        (b"1\n2\nthree\n", "'three'"),
        (b"1,2\n3\n", "line 2 has 1 values"),
        (saved(np.array([{}], dtype=object)), "not unpickled"),
        (saved(np.zeros(20)), "20 numbers, over the limit of 10"),
        (packed(a=np.zeros(2), b=np.zeros(2)), "holds 2 arrays"),
        (saved(np.zeros(4))[:-9], "damaged or truncated"),
    ],
)
def test_an_upload_that_is_no_series_is_refused_in_one_sentence(data: bytes, words: str) -> None:
    with pytest.raises(ImageError) as caught:
        read_upload(io.BytesIO(data), "up.csv", 10)
    assert words in str(caught.value)
    assert "up.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["mnist1d", "templates"])
def test_examples_run(name: str) -> None:
    assert doctest.testmod(importlib.import_module(f"sightline.demo.{name}")).failed == 0
