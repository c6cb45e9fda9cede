"""Series, volumes and pictures of many channels: read right or refused in one line, explained, drawn, saved."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import sightline
from nets import ConvNet, SignalNet, VolumeNet, drawn
from sightline import arrays, signals
from sightline.errors import ImageError, InputError, ParameterError
from sightline.explanation import Explanation
from sightline.geometry import Preprocessing
from sightline.images import read_image
from sightline.models.load import load
from sightline.models.model import Model
from sightline.render.photo import channels_note, shown_channels
from sightline.render.plot import Frame, line, number_ticks, whole_ticks
from sightline.render.signal import signal_card, signal_plot
from sightline.render.volume import strongest_slices, volume_card
from sightline.signals import read_signal, standardised

LENGTH = 24


@pytest.fixture(scope="module")
def series() -> Model:
    return load(drawn(SignalNet), labels=list("abcde"))


@pytest.fixture(scope="module")
def volumes() -> Model:
    return load(drawn(VolumeNet), labels=list("abcde"))


def wave(channels: int = 2, length: int = LENGTH) -> np.ndarray:
    """Values (L, C), none of them alike."""
    return np.random.default_rng(0).normal(size=(length, channels)).astype(np.float32)


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def refused(source: object, *words: str, dims: int = 1, channels: int = 2, most: int = 10_000) -> None:
    with pytest.raises(ImageError) as caught:
        read_signal(source, dims=dims, channels=channels, most=most)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    for word in words:
        assert word in message, message


# ------------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int32, np.uint8, bool, ">f4"])
def test_values_of_any_type_stay_as_they_are(dtype) -> None:
    values = (wave() * 3).astype(dtype)
    found = read_signal(values, dims=1, channels=2).values
    assert found.dtype == np.float32
    assert np.array_equal(found, values.T.astype(np.float32))


@pytest.mark.parametrize(
    ("shape", "channels", "last"),
    [
        ((24,), 1, None),
        ((24, 1), 1, True),
        ((1, 24), 1, False),
        ((24, 3), 3, True),
        ((3, 24), 3, False),
        ((3, 3), 3, True),
    ],
)
def test_channels_of_series_may_be_last_first_or_left_out(shape, channels, last) -> None:
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    wanted = values[None] if last is None else values.T if last else values
    assert np.array_equal(read_signal(values, dims=1, channels=channels).values, wanted)


@pytest.mark.parametrize(
    ("shape", "channels", "first"),
    [((6, 8, 9), 1, None), ((6, 8, 9, 1), 1, -1), ((1, 6, 8, 9), 1, 0), ((6, 8, 9, 3), 3, -1), ((3, 8, 9, 3), 3, -1)],
)
def test_channels_of_volumes(shape, channels, first) -> None:
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    wanted = values[None] if first is None else np.moveaxis(values, first, 0)
    assert np.array_equal(read_signal(values, dims=3, channels=channels).values, wanted)


@pytest.mark.parametrize(
    "text",
    [
        "1,2.5\n3,-4e-1\n5,6\n",
        "time,volt\n1,2.5\n3,-.4\n5,6",
        '"a b","c"\r\n"1","2.5"\r\n3,-0.4\r\n\r\n5,6\r\n',
        "# made by hand\n1;2.5\n3;-0.4\n5;6\n",
        "1\t2.5\n3\t-0.4\n5\t6\n",
        "my signal\n1 2.5\n 3   -0.4\n5 6\n",
        "\ufeff1, 2.5\n3, -0.4\n5, 6\n",
    ],
)
def test_tables_however_they_are_written(text: str, tmp_path: Path) -> None:
    found = read_signal(written(tmp_path / "a.csv", text), dims=1, channels=2)
    assert np.array_equal(found.values, np.float32([[1, 3, 5], [2.5, -0.4, 6]]))
    assert found.name == "a.csv"


@pytest.mark.parametrize("text", ["1\n2\n3\n", "volt\n1\n2\n3", "1,2,3\n", "1 2 3", "a,b,c\n1,2,3\n"])
def test_one_column_or_one_row_is_one_series(text: str, tmp_path: Path) -> None:
    found = read_signal(written(tmp_path / "a.txt", text), dims=1, channels=1)
    assert found.values.tolist() == [[1, 2, 3]]


def test_arrays_from_files(tmp_path: Path) -> None:
    values = wave()
    np.save(tmp_path / "a.npy", values)
    np.savez(tmp_path / "one.npz", anything=values)
    np.savez_compressed(tmp_path / "two.npz", x=values, y=values + 1)
    same = [read_signal(tmp_path / n, dims=1, channels=2) for n in ("a.npy", "one.npz", "two.npz:x")]
    assert all(np.array_equal(s.values, values.T) for s in same)
    assert len({s.hash for s in same}) == 1
    assert same[2].name == "two.npz:x"
    assert read_signal(str(tmp_path / "two.npz:y"), dims=1, channels=2).hash != same[0].hash
    assert not same[0].values.flags.writeable


def test_the_callers_array_is_left_alone() -> None:
    values = wave().T.copy()
    found = read_signal(values, dims=1, channels=2)
    assert values.flags.writeable
    assert not np.shares_memory(found.values, values)


# ------------------------------------------------------------------------------------------------- refusing


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1,2\n3\n", ["line 2 has 1 values", "2", "fill or cut"]),
        ("1,2\n3,4,5\n", ["line 2 has 3 values"]),
        ("1,2\n3,abc\n", ["value 2 on line 2 is 'abc'", "wanted a number"]),
        ("1,two\n3,4\n", ["value 2 on line 1 is 'two'"]),
        ("1,\n3,4\n", ["value 2 on line 1 is missing"]),
        ("1,5;2,5\n3;4", ["'1,5'", "write decimals with a point"]),
        ("a,b\nc,d\n", ["value 1 on line 2 is 'c'"]),
        ("a,b\n", ["holds no numbers"]),
        ("1,2\nnan,4\n", ["NaN or infinity (1 of 4 values, the first at 1 of channel 0"]),
        ("1,2\n3,1e60\n", ["NaN or infinity"]),
        ("1,2,3\n4,5,6\n7,8,9\n", ["shape (3, 3)", "2 channels", "(L, 2) or (2, L)"]),
        ("1\n2\n3\n", ["shape (3, 1)", "2 channels"]),
    ],
)
def test_bad_tables_are_refused_in_one_line(text: str, words: list[str], tmp_path: Path) -> None:
    refused(written(tmp_path / "a.csv", text), "a.csv", *words)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.zeros((2, 3, 4)), ["shape (2, 3, 4)", "one by one"]),
        (np.zeros(9), ["shape (9,)", "Stack the channels"]),
        (np.zeros(()), ["shape ()"]),
        (np.zeros((0, 2)), ["empty"]),
        (np.zeros((9, 5)), ["shape (9, 5)", "2 channels", "Leave out the channels"]),
        (np.zeros((9, 1)), ["shape (9, 1)", "2 channels", "missing channels"]),
        (np.full((9, 2), np.nan), ["18 of 18"]),
        (np.zeros((9, 2), complex), ["complex128", "real numbers"]),
        (np.array([["a", "b"]]), ["<U1"]),
        (np.array([[1], [1, 2]], dtype=object), ["Python objects"]),
        ([1.0, 2.0], ["a list came", "(L, 2)"]),
        (Image.new("L", (4, 4)), ["a Image came"]),
        (None, ["a NoneType came"]),
        ("", ["an empty path"]),
    ],
)
def test_what_is_no_series_is_refused(values: object, words: list[str]) -> None:
    refused(values, *words)


def test_a_pickle_in_a_file_is_never_opened(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    np.save(tmp_path / "a.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "a.npz", x=np.array([Bomb()], dtype=object))
    for name in ("a.npy", "a.npz"):
        refused(tmp_path / name, name, "Python objects", "not unpickled", "np.save(")
        with pytest.raises(ImageError, match="not unpickled"):
            read_image(tmp_path / name)
    assert not (tmp_path / "exploded").exists()


def test_files_that_are_damaged_or_too_large(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", wave())
    whole = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(whole[:-40])
    refused(tmp_path / "cut.npy", "cut.npy", "damaged or truncated")
    (tmp_path / "head.npy").write_bytes(whole[:30])
    refused(tmp_path / "head.npy", "damaged or truncated")
    np.savez_compressed(tmp_path / "bomb.npz", np.zeros(1_000_000))
    refused(tmp_path / "bomb.npz", "1,000,000 numbers", "max_pixels")
    (tmp_path / "lie.npy").write_bytes(whole.replace(b"(24, 2)", b"(9**9,)"))
    refused(tmp_path / "lie.npy", "damaged or truncated")
    packed = (tmp_path / "bomb.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(packed[: len(packed) // 2])
    refused(tmp_path / "cut.npz", "damaged or truncated")
    refused(written(tmp_path / "long.csv", "1,2\n" * 6000), "over the limit")
    with pytest.warns(UserWarning, match="format 3"):
        np.save(tmp_path / "record.npy", np.zeros(3, dtype=[("€", "f4")]))
    refused(tmp_path / "record.npy", "record")


def test_files_of_other_kinds_name_what_is_wanted(tmp_path: Path) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    refused(tmp_path / "a.png", "a.png", "no array and no table", ".npy, .npz, .csv")
    (tmp_path / "a.csv").write_bytes(b"1,2\n\xff\xfe\x00")
    refused(tmp_path / "a.csv", "not text in UTF-8")
    (tmp_path / "none.csv").touch()
    refused(tmp_path / "none.csv", "empty (0 bytes)")
    refused(tmp_path, "is a directory", "*.csv")
    refused(tmp_path / "b.csv", "does not exist", "Did you mean a.csv")


def test_a_table_for_a_model_of_pictures_says_what_is_missing(tmp_path: Path) -> None:
    file = written(tmp_path / "a.csv", "1,2\n")
    with pytest.raises(ImageError, match=r"a\.csv is not an image.*dims=1"):
        read_image(file)
    refused(file, "4 spatial dimensions", dims=4)


def test_several_arrays_in_a_file_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "two.npz", voltage=wave(), current=wave())
    refused(tmp_path / "two.npz", "2 arrays (voltage, current)", "two.npz:voltage")
    refused(tmp_path / "two.npz:voltge", "no array 'voltge'", "Did you mean voltage?")


# ------------------------------------------------------------------------------------------------- explaining


@pytest.mark.parametrize("kind", ["npy", "npz", "csv", "array", "last"])
def test_a_series_of_any_form_is_the_tensor_that_it_holds(series: Model, kind: str, tmp_path: Path) -> None:
    values = wave()
    np.save(tmp_path / "a.npy", values)
    np.savez(tmp_path / "a.npz", values)
    np.savetxt(tmp_path / "a.csv", values.astype(np.float64), delimiter=",", fmt="%.9g")
    given = {"array": values.T, "last": values}.get(kind, tmp_path / f"a.{kind}")
    wanted = sightline.explain(series, torch.from_numpy(values.T[None]), "gradient,grad_cam", "b")
    found = sightline.explain(series, given, "gradient,grad_cam", "b")
    for a, b in zip(found, wanted, strict=True):
        assert np.allclose(a.attribution, b.attribution, atol=1e-6)
        assert a.heatmap.shape == (LENGTH,)
        assert np.array_equal(a.signal, b.signal)
        assert a.image is None
    assert found[0].provenance["preprocessing"] == "values as given"
    assert found[0].provenance["image"] == (None if kind in ("array", "last") else f"a.{kind}")


def test_a_preprocessing_that_was_given_is_applied() -> None:
    how = Preprocessing(mean=(1.0, 2.0), std=(2.0, 4.0), scale=10.0)
    model = load(drawn(SignalNet), preprocessing=how)
    values = wave() * 10
    x = torch.from_numpy(((values / 10 - [1, 2]) / [2, 4]).T.astype(np.float32))
    e = sightline.explain(model, values, "gradient", 1)
    assert np.allclose(e.attribution, sightline.explain(model, x[None], "gradient", 1)[0].attribution, atol=1e-6)
    assert e.provenance["preprocessing"] == "no resizing, /10, mean 1 2, std 2 4"
    assert np.array_equal(e.signal, values.T)
    assert torch.equal(standardised(values.T, None)[0], torch.from_numpy(values.T))


def test_a_volume_is_explained_and_its_map_lies_on_it(volumes: Model, tmp_path: Path) -> None:
    values = np.random.default_rng(1).normal(size=(6, 8, 9)).astype(np.float32)
    np.save(tmp_path / "v.npy", values)
    cam, pixels = sightline.explain(volumes, tmp_path / "v.npy", "grad_cam,gradient")
    assert cam.heatmap.shape == pixels.heatmap.shape == (6, 8, 9)
    assert np.array_equal(cam.signal, values[None])
    with pytest.raises(ImageError, match=r"shape \(8, 9\).*a volume of 1 channel"):
        sightline.explain(volumes, values[0])


@pytest.mark.parametrize(("build", "dims"), [(SignalNet, 1), (ConvNet, 2), (VolumeNet, 3), (nn.Identity, 2)])
def test_dimensions_are_guessed_from_the_first_convolution(build, dims: int) -> None:
    assert load(drawn(build)).input_dims == dims
    assert Model(nn.Identity(), "it", Preprocessing(), dims=3).input_dims == 3
    assert Model(nn.Identity(), "it", Preprocessing(), input_size=(9,)).input_dims == 1


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_dimensions_of_torchscript_are_guessed_too() -> None:
    assert Model(torch.jit.script(drawn(SignalNet)), "it", Preprocessing()).input_dims == 1


def test_one_bad_series_does_not_stop_the_others(series: Model) -> None:
    failures = []
    given = [wave(), wave(3), wave(length=30)]
    found = list(sightline.engine.explanations(series, given, "gradient", on_failure=failures.append))
    assert [e.heatmap.shape for _, e in found] == [(24,), (30,)]
    assert "shape (24, 3)" in str(failures[0].error)


@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_saved_and_loaded_is_the_same(series: Model, suffix: str, tmp_path: Path) -> None:
    e = sightline.explain(series, wave(), "gradient")
    again = Explanation.load(e.save(tmp_path / f"e{suffix}"))
    assert np.array_equal(again.signal, e.signal)
    assert again.to_dict() == e.to_dict()
    assert again.render("overlay").tobytes() == e.render("overlay").tobytes()


def test_files_from_before_signals_are_still_read(series: Model, tmp_path: Path) -> None:
    file = sightline.explain(series, wave(), "gradient").save(tmp_path / "e.json")
    old = {k: v for k, v in json.loads(file.read_text()).items() if k != "signal"}
    file.write_text(json.dumps(old))
    e = Explanation.load(file)
    assert e.signal is None
    assert e.render().mode == "RGB"  # the attribution alone


# ------------------------------------------------------------------------------------------------- pictures


def test_pictures_from_array_files(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    np.save(tmp_path / "a.npy", pixels)
    np.savez(tmp_path / "a.npz", x=pixels, y=pixels[..., :1])
    found = read_image(tmp_path / "a.npy")
    assert np.array_equal(found.pixels, pixels)
    assert found.name == "a.npy"
    assert found.hash == read_image(pixels).hash
    assert np.array_equal(read_image(tmp_path / "a.npz:y", channels=1).pixels, pixels[..., 0])
    np.save(tmp_path / "deep.npy", (pixels * np.uint16(257)).astype(np.uint16))
    assert np.array_equal(read_image(tmp_path / "deep.npy").pixels, pixels)
    np.save(tmp_path / "bad.npy", np.full((9, 9), 3.0))
    with pytest.raises(ImageError, match=r"bad\.npy: a float array from 3 to 3 came; wanted 0 to 1"):
        read_image(tmp_path / "bad.npy")
    with pytest.raises(ImageError, match="over the limit of 40"):
        read_image(tmp_path / "a.npy", max_pixels=10)


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_pictures_of_any_number_of_channels(channels: int, tmp_path: Path) -> None:
    model = load(drawn(lambda: ConvNet(channels=channels)), preprocessing=_plain(channels))
    shape = (16, 16, channels) if channels > 1 else (16, 16)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    np.save(tmp_path / "a.npy", pixels)
    from_file, from_array = (sightline.explain(model, given, "gradient") for given in (tmp_path / "a.npy", pixels))
    assert np.array_equal(from_file.attribution, from_array.attribution)
    assert from_file.attribution.shape == (channels, 16, 16)
    for draw in ("card", "overlay", "heatmap", "masked", "alpha", "contours"):
        assert from_file.render(draw).mode == "RGB"
    tensor = sightline.explain(model, torch.randn(1, channels, 16, 16), "gradient")[0]
    assert tensor.render().mode == "RGB"


def _plain(channels: int) -> Preprocessing:
    return Preprocessing(resize=16, crop=16, mean=(0.5,) * channels, std=(0.25,) * channels)


def test_other_numbers_of_channels_are_shown_by_the_first_three() -> None:
    ramp = np.linspace(-5, 9, 12).reshape(1, 3, 4)
    assert shown_channels(np.concatenate([ramp] * 5)).shape == (3, 4, 3)
    assert shown_channels(np.concatenate([ramp, ramp + 1]))[[0, -1], [0, -1]].tolist() == [0, 255]
    assert np.unique(shown_channels(np.zeros((5, 3, 3)))).size == 1
    together = shown_channels(np.stack([ramp[0], ramp[0] / 2, ramp[0] * 0]))
    assert together[..., 0].max() > together[..., 1].max() > together[..., 2].max()
    assert channels_note(1) is channels_note(3) is None
    assert "channel 0 of 2" in channels_note(2)


# ------------------------------------------------------------------------------------------------- drawing


@pytest.mark.parametrize("method", ["grad_cam", "gradient", "integrated_gradients", "activations"])
@pytest.mark.parametrize("draw", ["card", "overlay", "heatmap", "channels"])
def test_every_drawing_of_a_series(series: Model, method: str, draw, tmp_path: Path) -> None:
    e = sightline.explain(series, wave(), method)
    with Image.open(e.save(tmp_path / "e.png", draw)) as picture:
        assert picture.mode == "RGB"
        assert 1200 <= picture.width <= 1400


@pytest.mark.parametrize("draw", ["masked", "alpha", "contours"])
def test_drawings_that_are_for_pictures_are_refused(series: Model, draw) -> None:
    e = sightline.explain(series, wave(), "gradient")
    with pytest.raises(ParameterError, match="wanted card, overlay, heatmap or channels"):
        e.render(draw)


@pytest.mark.parametrize("draw", ["card", "overlay", "heatmap", "masked", "alpha", "contours", "channels"])
def test_every_drawing_of_a_volume(volumes: Model, draw) -> None:
    values = np.random.default_rng(1).normal(size=(12, 8, 9))
    for e in sightline.explain(volumes, values, "grad_cam,gradient,activations"):
        assert e.render(draw).mode == "RGB"


@pytest.mark.parametrize("length", [1, 2, 7, 500, 5000])
@pytest.mark.parametrize("style", ["sequential", "diverging", "grey"])
def test_series_of_any_length(length: int, style) -> None:
    signal = np.sin(np.arange(length) / 9.0)[None] * 1e-3 + 1013
    heat = np.cos(np.arange(length) / 9.0)[None]
    for values in (signal, signal * 0):
        assert signal_card(values, heat, style=style, title="t", predictions=[("a", 0.5)]).width == 1300
    assert signal_card(signal, heat * 0, style=style, title="t").width == 1300


def test_the_strongest_of_many_channels_are_drawn_and_the_rest_is_noted() -> None:
    maps = np.ones((9, 40)) * np.arange(9)[:, None]
    plain, noted = (
        signal_card(maps[:6], maps[:6], style="sequential", title="t"),
        signal_card(maps, maps, style="sequential", title="t"),
    )
    assert noted.height > plain.height
    shared = signal_card(maps, maps[:1] + 1, style="sequential", title="t")
    assert shared.width == 1300
    with pytest.raises(InputError, match=r"signal of shape \(9, 40\)"):
        signal_card(maps, maps[:2], style="sequential", title="t")


def test_the_line_has_the_colours_of_its_attribution() -> None:
    signal, heat = np.zeros((1, 100)), np.where(np.arange(100) < 50, -1.0, 1.0)[None]
    pixels = np.asarray(signal_plot(signal, heat, style="diverging", parts="line")).astype(int)
    redder = (pixels[..., 0] - pixels[..., 2]) > 60
    bluer = (pixels[..., 2] - pixels[..., 0]) > 60
    assert np.argwhere(bluer)[:, 1].max() < np.argwhere(redder)[:, 1].min()


@pytest.mark.parametrize("count", [30, 3000])
def test_a_spike_is_never_lost(count: int) -> None:
    values = np.zeros(count)
    values[count // 3] = 1.0
    frame = Frame.around(values, 300, 100)
    colours = np.zeros((count, 3), np.uint8)
    colours[count // 3] = (255, 0, 0)
    pixels = np.asarray(line(values, colours, values, frame, (255, 255, 255))).astype(int)
    red = np.argwhere((pixels[..., 0] > 150) & (pixels[..., 1] < 90))
    assert len(red)
    assert abs(red[:, 1].mean() - frame.x(count // 3)) < 3
    assert red[:, 0].min() < frame.y(0.9)


def test_ticks_are_round_and_tell_values_apart() -> None:
    for low, high in ((0, 1), (-3e-5, 2e-5), (1013.2, 1013.9), (-7e8, 9e9), (0.4, 0.4001)):
        texts = [text for _, text in number_ticks(Frame(100, 100, 9, low, high))]
        assert 2 <= len(texts) <= 6
        assert len(set(texts)) == len(texts)
    assert [t for _, t in whole_ticks(Frame(100, 100, 3, 0, 1))] == ["0", "1", "2"]
    assert [t for _, t in whole_ticks(Frame(100, 100, 1, 0, 1))] == ["0"]


def test_slices_with_the_most_attribution_are_shown_in_order() -> None:
    heat = np.zeros((40, 4, 4))
    heat[[3, 30, 17]] = np.array([1.0, -5.0, 2.0])[:, None, None]
    assert strongest_slices(heat) == [3, 17, 30]
    assert len(strongest_slices(heat * 0)) == 8
    assert len(strongest_slices(heat + 1)) == 8
    picture = volume_card(None, heat, style="diverging", title="t", predictions=[("a", 1.0)])
    assert picture.width == 1300
    with pytest.raises(InputError, match=r"wanted \(D, H, W\)"):
        volume_card(np.zeros((1, 3, 4, 4)), heat, style="diverging", title="t")


def test_notebooks_and_comparisons_show_series_and_volumes(series: Model, volumes: Model) -> None:
    html = sightline.explain(series, wave(), "gradient")._repr_html_()
    assert re.search(r'<img alt="gradient[^"]+" src="data:image/png;base64,', html)
    volume = np.random.default_rng(1).normal(size=(6, 8, 8))
    many = load(nn.Sequential(nn.Conv1d(9, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten()).eval())
    for model, given in ((series, wave()), (volumes, volume), (many, wave(9))):
        assert sightline.compare(model, given, "grad_cam,gradient,integrated_gradients").picture.mode == "RGB"


@pytest.mark.parametrize("module", [arrays, signals, importlib.import_module("sightline.paths")])
def test_examples_run(module) -> None:
    import doctest

    assert doctest.testmod(module).failed == 0


def test_a_series_of_another_length_is_refused_where_the_model_says_its_own(series: Model) -> None:
    from dataclasses import replace

    with pytest.raises(ImageError, match=r"has 64 values a channel; .* takes 40"):
        sightline.explain(replace(series, input_size=(40,)), np.zeros((64, 2)), "gradient")
