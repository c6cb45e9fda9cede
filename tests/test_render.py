"""Pictures: what they must never get wrong (sizes, colours, order, what was not seen), and must not crash."""

from __future__ import annotations

import doctest
import importlib
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline import render
from sightline.errors import ImageError, InputError, ParameterError
from sightline.render import (
    activation_grid,
    alpha_scaled,
    card,
    colour_table,
    contours,
    explanation_html,
    grid,
    heatmap_image,
    legend,
    limits,
    map_notes,
    masked,
    normalise,
    overlay,
    png_bytes,
    prediction_table,
)

PACKAGE = Path(render.__file__).parent
STYLES = ("sequential", "diverging", "grey")
VIEWS = ("overlay", "heatmap", "masked", "alpha_scaled", "contours")
SIZES = [(1, 1), (1, 7), (9, 1), (2, 2), (13, 31), (96, 96)]
LABELS = ["", "x" * 5000, "word " * 900, "藏獒 🐕 دوبرمان", "a\nb\tc\x00d", "\ud800 lone", "e\u0301" * 80]


def red(height=8, width=8):
    return np.full((height, width, 3), (255, 0, 0), np.uint8)


def noise(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def hill(n=40):
    return np.outer(np.hanning(n), np.hanning(n))


def pixels(image):
    return np.asarray(image).astype(int)


def views(photo, heatmap):
    for style in STYLES:
        yield overlay(photo, heatmap, style=style)
        yield heatmap_image(heatmap, style=style)
        yield contours(photo, heatmap, style=style)
    yield masked(photo, heatmap)
    yield masked(photo, heatmap, top=0.2)
    yield alpha_scaled(photo, heatmap)


# --- the scale ---------------------------------------------------------------------------------------------


def test_limits_by_style():
    signed = np.array([[-6.0, 1.0, 4.0, np.nan]])
    assert limits(np.abs(signed), "sequential") == (0, 6)
    assert limits(signed, "sequential") == (-6, 4)
    assert limits(signed, "diverging") == (-6, 6)
    assert limits(signed, "grey") == (0, 6)
    assert limits(-np.abs(signed), "sequential") == (-6, 0), "zero always lies on the bar"


def test_limits_clip_at_the_percentile():
    values = np.arange(1.0, 1001.0).reshape(20, 50)
    values[0, 0] = 1e9
    low, high = limits(values, "sequential", 99.5)
    assert low == 0
    assert high == np.percentile(values, 99.5) < 1001
    assert normalise(values, "sequential", (low, high)).max() == 1
    assert limits(values - 2e9, "diverging", 50)[1] == -limits(values - 2e9, "diverging", 50)[0]


def test_limits_of_a_nearly_empty_map_are_its_largest_value():
    values = np.zeros((100, 100))
    values[3, 3] = 5.0
    for style in STYLES:
        assert limits(values, style, 99.5)[1] == 5


@pytest.mark.parametrize("percentile", [0, -1, 100.1, float("nan")])
def test_percentile_out_of_range(percentile):
    with pytest.raises(ParameterError, match="percentile"):
        limits(hill(), "grey", percentile)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int32, bool])
def test_higher_values_never_lie_lower(style, dtype):
    values = np.sort(noise((1, 4000)) * 50, axis=1).astype(dtype)
    sizes = np.sort(np.abs(values)) if style == "grey" and dtype is not bool else np.sort(values)
    positions = normalise(sizes, style, limits(sizes, style, 99))
    assert (np.diff(positions) >= 0).all()
    assert positions.min() >= 0
    assert positions.max() == pytest.approx(1)
    assert (np.diff(pixels(heatmap_image(sizes, style=style, colormap="gray"))[..., 0]) >= 0).all()


@pytest.mark.parametrize("unit", [1e-320, 1e-200, 1e-30, 1.0, 1e30, 1e200, 1.7e308])
def test_any_magnitude(unit):
    values = np.array([[-1.0, -0.5, 0.0, 0.5, 1.0]]) * unit
    for style, wanted in [("diverging", [0, 0.25, 0.5, 0.75, 1]), ("sequential", [0, 0.25, 0.5, 0.75, 1])]:
        assert normalise(values, style, limits(values, style)) == pytest.approx(np.array([wanted]), abs=1e-3)
    assert card(red(1, 5), values, style="diverging", title="t").width > 800


@pytest.mark.parametrize("bound", [1e-30, 0.3, 7.0, 1e30])
@pytest.mark.parametrize("colormap", ["RdBu_r", "seismic", "coolwarm", "PiYG"])
def test_zero_is_exactly_the_middle_of_a_diverging_map(bound, colormap):
    values = np.array([[0.0, bound, -bound / 3]], np.float32)
    middle = colour_table(colormap, "diverging")
    assert len(middle) % 2 == 1
    picture = pixels(heatmap_image(values, style="diverging", colormap=colormap))
    assert picture[0, 0].tolist() == middle[len(middle) // 2].tolist()
    assert picture[0, 1].tolist() == middle[-1].tolist()


def test_red_is_for_and_blue_against():
    picture = pixels(heatmap_image(np.array([[-1.0, 0.0, 1.0]]), style="diverging"))[0]
    assert picture[0, 2] > picture[0, 0]
    assert picture[2, 0] > picture[2, 2]
    assert len(set(picture[1])) == 1, "zero has no tint"


@pytest.mark.parametrize("style", STYLES)
def test_fixed_limits_make_pictures_comparable(style):
    top = hill(41)
    ends = (-1, 1) if style == "diverging" else (0, 1)
    weak, strong = (heatmap_image(top * factor, style=style, limits=ends) for factor in (0.5, 1))
    assert not np.array_equal(pixels(weak), pixels(strong))
    assert np.array_equal(pixels(strong), pixels(heatmap_image(top, style=style)))


def test_limits_of_a_diverging_map_count_on_both_sides():
    heatmap, lopsided, even = np.array([[-3.0, -1.0, 0.0, 3.0]]), (-1.0, 3.0), (-3.0, 3.0)
    for draw in (
        lambda ends: heatmap_image(heatmap, style="diverging", limits=ends),
        lambda ends: card(red(1, 4), heatmap, style="diverging", title="t", limits=ends),
        lambda ends: legend(ends, style="diverging", units="logits"),
    ):
        assert np.array_equal(pixels(draw(lopsided)), pixels(draw(even)))


@pytest.mark.parametrize("bad", [(1.0, 0.0), (0.0, np.inf), (np.nan, 1.0)])
def test_limits_that_are_none(bad):
    with pytest.raises(ParameterError, match="limits"):
        heatmap_image(hill(), style="sequential", limits=bad)
    with pytest.raises(ParameterError, match="limits"):
        card(red(40, 40), hill(), style="sequential", title="", limits=bad)


@pytest.mark.parametrize("style", STYLES)
def test_notes_and_degenerate_maps(style):
    zero, unseen, same = np.zeros((5, 4)), np.full((5, 4), np.nan), np.full((5, 4), -3.0)
    assert map_notes(zero) == ("the map is zero everywhere",)
    assert map_notes(unseen) == ("nothing of the picture was seen",)
    assert map_notes(same) == ("the map has the same value everywhere (−3)",)
    assert map_notes(hill()) == map_notes(np.array([[3.0]])) == ()
    assert limits(zero, style) == limits(unseen, style) == (0, 0)
    assert (normalise(zero, style, (0, 0)) == (0.5 if style == "diverging" else 0)).all()
    assert np.isnan(normalise(unseen, style, (0, 0))).all()
    for heatmap in (zero, unseen, same, -zero):
        assert all(v.size == (4, 5) for v in views(red(5, 4), heatmap))
        for view in VIEWS:
            card(red(5, 4), heatmap, style=style, title="t", view=view)


def test_a_note_about_the_map_makes_the_card_say_so():
    plain, empty = (card(red(40, 40), m, style="sequential", title="t") for m in (hill(), hill() * 0))
    assert empty.height > plain.height


@pytest.mark.parametrize(
    "bad",
    [
        np.array([[np.inf, 0]]),
        np.array([[-np.inf, np.nan]]),
        np.zeros((2, 2, 2)),
        np.zeros((0, 3)),
        np.array([["a"]]),
        np.array([[1j]]),
    ],
)
def test_maps_that_cannot_be_used(bad):
    for call in (
        limits,
        lambda m, s: heatmap_image(m, style=s),
        lambda m, s: card(red(1, 2), m, style=s, title="t"),
    ):
        with pytest.raises(InputError, match="heatmap"):
            call(bad, "sequential")


# --- over the photo ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [None, 3, 4])
def test_every_view_keeps_the_size(size, channels):
    photo = np.random.default_rng(0).integers(0, 256, size if channels is None else (*size, channels), np.uint8)
    heatmap = noise(size)
    heatmap[: size[0] // 3] = np.nan
    for picture in views(photo, heatmap):
        assert picture.size == (size[1], size[0])
        assert picture.mode == "RGB"


@pytest.mark.parametrize("style", STYLES)
def test_opacity_is_that_of_the_map(style):
    photo = np.random.default_rng(1).integers(0, 256, (40, 40, 3), np.uint8)
    assert np.array_equal(pixels(overlay(photo, hill(), style=style, heatmap_opacity=0)), photo)
    only = overlay(photo, hill(), style=style, heatmap_opacity=1)
    assert np.array_equal(pixels(only), pixels(heatmap_image(hill(), style=style)))


def test_half_and_half_with_all_of_the_photos_colour():
    photo = np.random.default_rng(1).integers(0, 256, (40, 40, 3), np.uint8)
    got = pixels(overlay(photo, hill(), style="sequential", colormap="jet", photo_colour=1))
    mean = (photo.astype(int) + pixels(heatmap_image(hill(), style="sequential", colormap="jet"))) / 2
    assert np.abs(got - mean).max() <= 1


def test_channels_are_red_green_blue():
    for place in range(3):
        photo = np.zeros((2, 2, 3), np.uint8)
        photo[..., place] = 255
        for style in STYLES:
            assert np.array_equal(pixels(overlay(photo, np.eye(2), style=style, heatmap_opacity=0)), photo)
        tinted = pixels(overlay(photo, np.zeros((2, 2)), style="sequential"))[0, 0]
        assert tinted.argmax() == place
        assert np.array_equal(pixels(masked(photo, np.ones((2, 2)))), photo)
        assert np.array_equal(pixels(alpha_scaled(photo, np.ones((2, 2)))), photo)


def test_nothing_is_flipped():
    heatmap = np.zeros((30, 20))
    heatmap[2, 17] = 1
    black = np.zeros((30, 20, 3), np.uint8)
    for style in ("sequential", "grey"):
        bright = pixels(overlay(black, heatmap, style=style)).sum(2)
        assert np.unravel_index(bright.argmax(), bright.shape) == (2, 17)


@pytest.mark.parametrize("name", ["jet", "turbo", "viridis", "plasma", "inferno", "gray", "tab10", "twilight"])
def test_colormaps_of_matplotlib(name):
    table = colour_table(name, "sequential")
    assert table.shape == (257, 3)
    ends = pixels(heatmap_image(np.array([[0.0, 1.0]]), style="sequential", colormap=name))[0]
    assert ends.tolist() == table[[0, -1]].tolist()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: heatmap_image(hill(), style="sequential", colormap="infernoo"), "Did you mean inferno"),
        (lambda: card(red(40, 40), hill(), style="sequential", title="", colormap="viridi"), "viridis"),
        (lambda: heatmap_image(hill(), style="divergin"), "diverging"),
        (lambda: legend((0, 1), style="gray"), "grey"),
        (lambda: card(red(40, 40), hill(), style="grey", title="", view="contour"), "contours"),
        (lambda: overlay(red(40, 40), hill(), style="grey", heatmap_opacity=1.5), "heatmap_opacity"),
        (lambda: overlay(red(40, 40), hill(), style="grey", heatmap_opacity=float("nan")), "heatmap_opacity"),
        (lambda: masked(red(40, 40), hill(), threshold=-1), "threshold"),
        (lambda: masked(red(40, 40), hill(), top=2), "top"),
        (lambda: contours(red(40, 40), hill(), style="grey", levels=[0, 0.5]), "levels"),
        (lambda: grid([[None]], row_labels=["a"], column_labels=["b", "c"]), "column"),
    ],
)
def test_unknown_names_and_values(call, words):
    with pytest.raises(ParameterError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((4, 4, 3)),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros(4, np.uint8),
    ],
)
def test_photos_that_cannot_be_used(bad):
    with pytest.raises(ImageError, match="uint8"):
        overlay(bad, np.zeros((4, 4)), style="grey")


def test_a_map_of_another_size_is_refused():
    for call in (masked, alpha_scaled, lambda p, m: card(p, m, style="grey", title="")):
        with pytest.raises(InputError, match=r"7 x 5.*8 x 8"):
            call(red(), np.zeros((5, 7)))


def test_transparent_parts_are_white():
    photo = np.zeros((2, 2, 4), np.uint8)
    photo[0, 0] = (10, 20, 30, 255)
    picture = pixels(overlay(photo, np.zeros((2, 2)), style="grey", heatmap_opacity=0))
    assert picture[0, 0].tolist() == [10, 20, 30]
    assert picture[1, 1].tolist() == [255, 255, 255]


def test_what_was_not_seen_is_hatched_and_has_no_colour_of_the_map():
    photo = np.random.default_rng(0).integers(0, 256, (120, 90, 3), np.uint8)
    heatmap = noise((120, 90))
    heatmap[:30] = np.nan
    for picture in views(photo, heatmap):
        unseen = pixels(picture)[:30]
        assert unseen.std() > 3, "strokes, not a flat field"
        assert (unseen[..., 2] > unseen[..., 0]).all(), "cool greys only: no colour of a grey map either"
        assert (unseen.max(2) - unseen.min(2)).max() < 40


def test_masked_keeps_the_top():
    photo = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    heatmap = noise((40, 40))
    for top in (0.0, 0.05, 0.2):
        kept = (pixels(masked(photo, heatmap, top=top)) == photo).all(2)
        assert kept.sum() == pytest.approx(top * 1600, abs=3)
        assert not kept.any() or heatmap[kept].min() >= np.sort(heatmap.ravel())[-kept.sum() - 3]
    kept = (pixels(masked(photo, heatmap, threshold=0.5)) == photo).all(2)
    assert np.array_equal(kept | (heatmap >= heatmap.max() / 2), kept)
    assert (pixels(masked(red(), -np.ones((8, 8)), top=1.0)) != (255, 0, 0)).any(), "nothing speaks for it"


def test_alpha_scaled_rises_with_the_map():
    ramp = np.linspace(-1, 1, 64)[None]
    brightness = pixels(alpha_scaled(np.zeros((1, 64, 3), np.uint8), ramp))[0, :, 0]
    assert (np.diff(brightness) <= 0).all()
    assert brightness[0] > 230
    assert brightness[-1] == 0


def test_contours_lie_where_the_value_is():
    y, x = np.mgrid[:200, :200]
    cone = 1 - np.hypot(y - 100, x - 100) / 100
    photo = np.full((200, 200, 3), 128, np.uint8)
    changed = (pixels(contours(photo, cone.clip(0), style="sequential", levels=[0.5])) != 128).any(2)
    radii = np.hypot(y - 100, x - 100)[changed]
    assert changed.sum() > 300
    assert np.abs(radii - 50).max() < 4


def test_contours_of_a_diverging_map_lie_on_both_sides():
    photo = np.full((60, 60, 3), 128, np.uint8)
    both = np.concatenate([hill(60)[:, ::2], -hill(60)[:, ::2]], 1)
    changed = (pixels(contours(photo, both, style="diverging")) != 128).any(2)
    assert changed[:, :28].any()
    assert changed[:, 32:].any()


# --- cards, tables, grids ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [*SIZES, (300, 1), (1, 300), (375, 500), (700, 2400)])
def test_cards_of_any_photo_are_legible_and_not_too_wide(size):
    heatmap = noise(size)
    heatmap[:, : size[1] // 4] = np.nan
    picture = card(np.full(size, 99, np.uint8), heatmap, style="diverging", title="t", percentile=99.5)
    assert 850 <= picture.width <= 1950
    assert picture.height <= 1500


@pytest.mark.parametrize("label", LABELS)
def test_any_text(label):
    rows = [(label, 0.5), (label, float("nan")), (label, -3.0), (label, float("inf"))]
    made = card(
        red(40, 40), hill(), style="sequential", title=label, subtitle=label, notes=[label] * 2,
        predictions=rows, explained=label, units=label, ends=(label, label),
    )  # fmt: skip
    assert made.width <= 1950
    assert made.height < 2000
    table = prediction_table(rows, explained=label, width=200)
    cells = [[made, label], [table, None]]
    assert grid(cells, row_labels=[label] * 2, column_labels=[label] * 2, title=label).width < 1950
    activation_grid(np.ones((2, 3, 3)), title=label)
    explanation_html(b"", rows, title=label, notes=[label]).encode("utf-8")


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("style", STYLES)
def test_cards_of_every_view_and_style(view, style):
    heatmap = hill() - 0.3
    heatmap[:8] = np.nan
    seen, cut = (card(red(40, 40), m, style=style, view=view, title="t") for m in (hill(), heatmap))
    assert cut.height > seen.height, "the legend explains the hatching only where there is some"


def test_a_masked_card_is_measured_by_what_speaks_for_the_class():
    heatmap = -10 * hill()
    heatmap[15:25, 15:25] = 1.0
    picture = pixels(card(red(40, 40), heatmap, style="diverging", view="masked", title="t"))
    right = picture[:, picture.shape[1] // 2 :]
    assert ((right[..., 0] > 200) & (right[..., 1] < 60)).any()


def test_legends():
    for low, high in [(0, 1), (-1, 1), (-0.2, 3e-9), (0, 0), (2, 5)]:
        for style in STYLES:
            for units in (None, "logits"):
                made = legend((low, high), style=style, width=200, units=units, beyond=(True, True), not_seen=True)
                assert made.width == 200
    assert legend(None, style="grey", not_seen=True).height < 40
    assert legend((0, 1), style="grey", width=3).mode == "RGB"


def test_prediction_bars_grow_with_the_probability():
    def coloured(p):
        return (pixels(prediction_table([("a", p)], width=300)) == (173, 182, 193)).all(2).sum()

    lengths = [coloured(p) for p in (0.0, 0.2, 0.5, 1.0, 2.0)]
    assert lengths == sorted(lengths)
    assert lengths[0] == 0
    assert lengths[-1] == lengths[-2]
    assert prediction_table([], width=300).width == 300


def test_grid_cells_have_one_size_and_keep_their_aspect():
    wide, high = Image.new("RGB", (200, 50), "red"), Image.new("RGB", (50, 50), "red")
    made = grid(
        [[wide, high], [None, "refused: no ReLU"]],
        row_labels=["a", "b"],
        column_labels=["", ""],
        cell_width=100,
    )
    reds = (pixels(made) == (255, 0, 0)).all(2)
    assert sorted(np.unique(reds.sum(1))) == [0, 100, 200]
    assert grid([], row_labels=[], column_labels=[]).mode == "RGB"
    many = grid([[wide] * 20], row_labels=["all"], column_labels=["c"] * 20, legends=[wide] * 9, notes=["n"])
    assert many.width < 2400


def test_activation_grid_shares_one_scale_unless_told():
    maps = np.stack([np.eye(4), np.eye(4) * 100])
    shared, own = (pixels(activation_grid(maps, per_channel=own, colormap="gray")) for own in (False, True))
    assert (own == 255).all(2).sum() > 1.9 * (shared == 255).all(2).sum()
    for shape in [(1, 1, 1), (3, 1, 9), (64, 7, 7), (5, 300, 200), (300, 2, 2)]:
        made = activation_grid(noise(shape), style="sequential", per_channel=shape[0] == 3)
        assert max(made.size) < 2000
    for bad in (np.zeros((4, 4)), np.zeros((0, 4, 4)), np.full((1, 2, 2), np.inf)):
        with pytest.raises(InputError):
            activation_grid(bad)


def test_resizing_a_map_does_not_spread_what_was_not_seen():
    from sightline.render.photo import resized_map

    heatmap = np.ones((40, 40), np.float32)
    heatmap[:, :10] = np.nan
    for size in [(400, 400), (20, 20), (133, 57)]:
        made = resized_map(heatmap, size)
        assert made.shape == (size[1], size[0])
        assert np.isnan(made).mean() == pytest.approx(0.25, abs=0.03)
        assert made[~np.isnan(made)] == pytest.approx(1.0)
    square = np.array([[0.0, 1.0], [1.0, 0.0]], np.float32)
    assert set(resized_map(square, (10, 10)).ravel()) == {0, 1}, "single pixels stay squares"
    assert len(np.unique(resized_map(hill(), (200, 200)))) > 1000, "a smooth map stays smooth"


# --- files, notebooks, the process -------------------------------------------------------------------------


def chunks(png):
    at = 8
    while at < len(png):
        length = int.from_bytes(png[at : at + 4])
        yield png[at + 4 : at + 8]
        at += 12 + length


def test_png_holds_pixels_only():
    image = Image.new("RGB", (4, 4), "red")
    image.info = {"comment": "secret", "dpi": (1, 1), "icc_profile": b"x"}
    image.getexif()[0x010E] = "secret"
    png = png_bytes(image)
    assert set(chunks(png)) == {b"IHDR", b"IDAT", b"IEND"}
    assert image.info["comment"] == "secret", "the caller's image stays as it was"


def test_html_is_escaped_and_self_contained():
    evil = "\"><script>alert('x')</script>&"
    html = explanation_html(b"png", [(evil, 0.5)], title=evil, subtitle=evil, notes=[evil])
    tags = [name for name, _ in parsed(html)]
    assert set(tags) == {"figure", "img", "details", "summary", "p", "table", "tr", "th", "td"}
    image = dict(parsed(html))["img"]
    assert set(image) == {"alt", "src", "style"}
    assert image["src"] == "data:image/png;base64,cG5n"
    assert evil in image["alt"]
    assert dict(parsed(explanation_html(b"", title="t", alt="a dog")))["img"]["alt"] == "a dog"


def parsed(html):
    found = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: found.append((tag, dict(attributes)))
    parser.feed(html)
    return found


def test_importing_is_light():
    code = (
        "import sys, types\n"
        "package = types.ModuleType('sightline')\n"
        f"package.__path__ = [{str(PACKAGE.parent)!r}]\n"
        "sys.modules['sightline'] = package\n"
        "import sightline.render\n"
        "print([m for m in ('matplotlib', 'torch', 'scipy', 'contourpy') if m in sys.modules])\n"
        "import numpy as np\n"
        "photo, heatmap = np.zeros((9, 9), np.uint8), np.eye(9)\n"
        "sightline.render.card(photo, heatmap, style='grey', title='t', view='contours')\n"
        "print([m for m in ('matplotlib.pyplot', 'torch') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.split("\n")[:2] == ["[]", "[]"], done.stderr


def test_matplotlib_is_left_as_it_was():
    import matplotlib

    before, names = dict(matplotlib.rcParams), list(matplotlib.colormaps)
    card(red(40, 40), hill(), style="diverging", title="t", view="contours", predictions=[("a", 1.0)])
    assert dict(matplotlib.rcParams) == before
    assert list(matplotlib.colormaps) == names


def test_inputs_are_left_as_they_were():
    photo, heatmap = red(40, 40), hill()
    photo.flags.writeable = heatmap.flags.writeable = False
    assert len(list(views(photo, heatmap))) == 12
    card(photo, heatmap, style="grey", title="t")


def test_same_input_same_bytes():
    one, two = (png_bytes(card(red(40, 40), hill(), style="sequential", title="t")) for _ in range(2))
    assert one == two


@pytest.mark.parametrize("module", sorted(path.stem for path in PACKAGE.glob("[a-z]*.py")))
def test_examples_run(module):
    assert doctest.testmod(importlib.import_module(f"sightline.render.{module}")).failed == 0


def test_every_public_name_is_there():
    assert set(render.__all__) <= set(dir(render))


@pytest.mark.parametrize("style", STYLES)
def test_below_the_threshold_the_photo_is_as_it_came(style):
    heatmap = np.linspace(-1, 1, 64).reshape(8, 8) if style == "diverging" else np.linspace(0, 1, 64).reshape(8, 8)
    ends = (-1.0, 1.0) if style == "diverging" else (0.0, 1.0)
    seen = pixels(overlay(red(), heatmap, style=style, threshold=0.5, limits=ends))
    low = np.abs(heatmap) < 0.5
    assert (seen[low] == (255, 0, 0)).all()
    assert (seen[~low] == pixels(overlay(red(), heatmap, style=style, limits=ends))[~low]).all()


@pytest.mark.parametrize("threshold", [-0.1, 1.1])
def test_a_threshold_is_a_share(threshold):
    with pytest.raises(ParameterError, match="threshold is a number from 0 to 1"):
        overlay(red(), hill(8), style="sequential", threshold=threshold)
