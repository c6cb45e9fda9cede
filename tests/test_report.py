"""The report of an evaluation: what stands on it, in which order, and that nothing gets onto it that should not."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nets import SignalNet, drawn
from reports import Answer, Checked, Page, explained, made
from sightline.cli.main import main
from sightline.demo.scenes import scene
from sightline.evaluation.registry import METRICS
from sightline.evaluation.report import write_report
from sightline.evaluation.report.dots import dot_plots
from sightline.evaluation.report.lines import HEIGHT, WIDTH, curve_plots
from sightline.evaluation.report.page import data_uri, undirected
from sightline.evaluation.report.scales import scale_of
from sightline.evaluation.report.verdicts import headline, verdicts
from sightline.evaluation.results import Evaluation, Row
from sightline.evaluation.run import evaluate

HOSTILE = '<img src=x onerror="alert(1)">&"\'</style><script>'


def page(found: Evaluation, tmp_path: Path) -> tuple[str, Page]:
    text = found.report(tmp_path / "report.html").read_text(encoding="utf-8")
    return text, Page(text)


def test_the_order_of_the_page(tmp_path: Path) -> None:
    cards = Checked([Answer("Does it depend on the model?", "yes", 0.12, "The map changes with the weights.")])
    e = explained()
    object.__setattr__(e, "check", cards)
    found = made(findings=["The model looks at the lower right corner."], shown=[[e, explained("random")]])
    _, seen = page(found, tmp_path)
    first = [
        "The model looks at the lower right corner.",
        headline(verdicts(found)),
        "Beats every control on all 3 tests.",
        "Ranking",
    ]
    text = seen.text.partition("How to read this")[2]
    places = [text.index(s) for s in first]
    assert places == sorted(places)
    assert "The map changes with the weights." in text
    assert cards.headline in text
    assert [a["aria-label"] for a in seen.all("span") if a.get("class") == "sign"] == ["yes"]
    sections = ["verdicts", "ranking", "curves", "pictures", "trust", "skipped", "numbers", "made", "reading"]
    assert [a["id"] for a in seen.all("section")] == sections
    assert [a["href"] for a in seen.all("a")] == ["#content", *(f"#{s}" for s in sections)]


def test_nothing_is_loaded_and_nothing_runs(tmp_path: Path) -> None:
    text, seen = page(made(shown=[[explained()]]), tmp_path)
    assert not re.search(r"https?://|@import|url\(", text)
    assert not {"script", "iframe", "object", "form"} & {tag for tag, _ in seen.tags}
    assert all(re.match("data:image/(png|jpeg);base64,", a["src"]) for a in seen.all("img"))
    assert all(a["href"].startswith(("#", "data:")) for tag, a in seen.tags if "href" in a)
    assert not any(name.startswith("on") for _, attrs in seen.tags for name in attrs)


def test_hostile_names_are_text(tmp_path: Path) -> None:
    found = made(
        name=HOSTILE,
        shown=[[explained(name=f"{HOSTILE} 0.png", target=HOSTILE)]],
        findings=[HOSTILE],
        skipped=[{"image": HOSTILE, "method": None, "metric": None, "reason": HOSTILE}],
    )
    hostile = replace(found, settings={**found.settings, "model": HOSTILE, "target": HOSTILE})
    text, seen = page(hostile, tmp_path)
    assert "<script" not in text
    assert "onerror=" not in re.sub(r"onerror=&#34;", "", text)
    assert seen.text.count("<script>") >= 4
    assert len(seen.all("img")) == 3


def test_directories_are_not_told(tmp_path: Path) -> None:
    photo = "/home/ann/my photos/x.png"
    skipped = [
        {"image": photo, "method": None, "metric": None, "reason": f"{photo} is not an image."},
        {"image": None, "method": "cam", "metric": None, "reason": r"no C:\Users\ann\net.pt here, nor ~/nets/a.pt"},
    ]
    found = made(skipped=skipped)
    settings = {**found.settings, "weights": "/srv/secret/w.safetensors", "methods": {"cam": {"file": "/srv/secret/b"}}}
    text, seen = page(replace(found, settings=settings), tmp_path)
    assert "x.png is not an image." in seen.text
    assert "no net.pt here, nor a.pt" in seen.text
    assert not re.search(r"\bann\b|my photos|secret|Users|nets", text)


def test_what_is_no_path_stays() -> None:
    text = "3/4 of a/b, arXiv:1806/07421, km/h; read/write, and/or"
    assert undirected(text) == text


def test_undefined_values_are_dashes(tmp_path: Path) -> None:
    found = made()
    rows = [replace(r, value=float("nan")) if r.method == "constant" else r for r in found.rows]
    text, seen = page(replace(found, rows=rows), tmp_path)
    assert "nan" not in re.sub('base64,[^"]+', "", text).casefold().replace("cannot", "").replace("predominan", "")
    assert "–" in seen.text


@pytest.mark.parametrize(
    "found",
    [
        made(("grad_cam", "random"), 1, ("insertion@1",)),
        made(("grad_cam",), 3, ("single_deletion@1",)),
        made(("random", "edges"), 8, ("deletion@1",)),
        made(metrics=()),
        made(curves=[], cost={}, settings={}),
    ],
    ids=["one-image", "no-control-has-a-value", "controls-alone", "no-values", "nothing-known"],
)
def test_little_is_still_a_page(found: Evaluation, tmp_path: Path) -> None:
    _, seen = page(found, tmp_path)
    assert "How to read this" in seen.text
    assert "beats every control on all" not in seen.text


def test_few_images_are_no_verdict() -> None:
    few = verdicts(made(images=5))
    assert headline(few).startswith("No verdict: with fewer than 6 images")
    assert {v.sentence for v in few} == {"Undecided: too few images, or no value that is defined."}
    assert {t.outcome for t in verdicts(made(images=7))[0].tests} == {"beats"}


def test_the_control_that_is_named_is_one_that_was_not_beaten() -> None:
    values = {"grad_cam": 0.5, "gradient": 0.1, "random": 0.0, "edges": 0.4}
    noise = np.random.default_rng(0).normal(0, 0.01, 8)
    far = np.array([1, -1] * 4)
    rows = [
        Row(str(i), "", "star", m, "insertion@1", v + noise[i] * (1 + len(m)) + (far[i] if m == "random" else 0))
        for m, v in values.items()
        for i in range(8)
    ]
    first, second = verdicts(Evaluation(rows, [], [], {}, {}))
    assert (first.method, first.tests[0].outcome, first.tests[0].control) == ("grad_cam", "even", "random")
    assert (second.method, second.tests[0].outcome, second.tests[0].control) == ("gradient", "worse", "edges")
    assert first.sentence == "No better than random noise."
    assert second.sentence == "Worse than an edge detector."


def test_verdicts_say_by_what() -> None:
    found = made(("random", "grad_cam", "edges", "gradient"))
    by_name = {v.method: v for v in verdicts(found)}
    assert by_name["gradient"].sentence == "Worse than random noise."
    mixed = [replace(r, value=-r.value) if r.metric == "insertion@1" else r for r in found.rows]
    said = {v.method: v.sentence for v in verdicts(replace(found, rows=mixed))}
    assert (
        said["gradient"]
        == "Beats every control on 1 of 3 tests; worse than random noise by deletion and single deletion."
    )


def test_a_mark_is_only_given_by_the_paired_test(tmp_path: Path) -> None:
    found = made()
    _, seen = page(found, tmp_path)
    won = {(m, k.name) for m in found.methods for k in found.metrics if found.beats_controls(k.name, m)}
    judged = {(v.method, t.metric.name) for v in verdicts(found) for t in v.tests if t.outcome == "beats"}
    assert judged == won
    winners = [a for a in seen.all("tr") if "winner" in a.get("class", "")]
    assert len(winners) == len(won)


def test_the_start_of_the_insertion_is_named(tmp_path: Path) -> None:
    found = made()
    plot = next(p for p in curve_plots(found) if p.name == "insertion")
    assert plot.start == pytest.approx(np.mean([r.score for r in found.curves if r.share == 0 and "ins" in r.metric]))
    _, seen = page(found, tmp_path)
    assert seen.text.count(f"start {plot.start:.2f}") == len(plot.panels)
    assert "Before any of them is shown, the blurred image alone scores" in seen.text


def test_numbers_have_the_digits_that_their_errors_need() -> None:
    found = made(metrics=("insertion@1",))
    closer = [replace(r, value=r.value / 10 + 1) for r in found.rows]
    finer = [replace(r, value=i % 6 + 1e-9 * r.value) for i, r in enumerate(found.rows)]
    plots = [dot_plots(replace(found, rows=rows), [])[0] for rows in (found.rows, closer, finer)]
    assert [p.digits for p in plots] == [3, 4, 1]


def test_curves_stay_in_their_panels() -> None:
    for plot in curve_plots(made()):
        numbers = [tuple(map(float, n.split())) for c in plot.lines for n in re.split("[MLZ]", c.line + c.band) if n]
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in numbers)
        assert 10 < plot.label_y < HEIGHT


@pytest.mark.parametrize(
    "values", [[0.0], [3.0, 3.0], [-2.0], [], [float("nan")], [1e-7, 2e-7], [-1e6, 1e6], [0.4, 0.41], [0.2823, 0.2908]]
)
def test_a_scale_holds_its_values(values: list[float]) -> None:
    scale = scale_of(values)
    assert scale.high > scale.low
    assert len(scale.ticks) >= 2
    assert all(0 <= t.at <= 1 for t in scale.ticks)
    told = [float(t.text.replace("−", "-")) for t in scale.ticks]
    assert told == pytest.approx(
        [scale.low + t.at * (scale.high - scale.low) for t in scale.ticks], abs=1e-9 + 1e-6 * scale.high
    )
    assert all(scale.low <= v <= scale.high for v in values if np.isfinite(v))


def test_signals_are_drawn(tmp_path: Path) -> None:
    signals = [np.random.default_rng(i).normal(size=(2, 24)).astype(np.float32) for i in range(2)]
    found = evaluate(drawn(SignalNet), signals, "gradient", "insertion", parameters={"insertion.steps": 2})
    _, seen = page(found, tmp_path)
    assert len(seen.all("figure")) == 1 + 2 * 5
    assert "the share of points shown" in seen.text


def test_preprocessed_tensors_have_their_own_values(tmp_path: Path) -> None:
    x = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    found = evaluate("demo/honest", x, "gradient", "single_deletion")
    _, seen = page(found, tmp_path)
    assert "image 0" in seen.text
    assert f"{found.values('gradient', 'single_deletion')[0]:.2f}".replace("-", "−") in seen.text


def test_an_interrupted_run_still_shows_its_pictures(tmp_path: Path) -> None:
    pictures = [scene(i).image for i in range(2)]
    whole = evaluate("demo/honest", pictures, "grad_cam", "single_deletion", out=tmp_path)
    again = evaluate("demo/honest", pictures, "grad_cam", "single_deletion", out=tmp_path)
    assert [[e.method for e in image] for image in again.shown] == [[e.method for e in image] for image in whole.shown]
    np.testing.assert_array_equal(again.shown[0][0].heatmap, whole.shown[0][0].heatmap)


def test_pictures_hold_pixels_and_nothing_else() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    for pixels in (noise, noise // 255):
        picture = Image.fromarray(pixels)
        exif = picture.getexif()
        exif[0x010E] = "taken at home"
        picture.info |= {"exif": exif.tobytes(), "icc_profile": b"secret profile", "comment": b"secret"}
        address = data_uri(picture)
        kept = Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))
        assert kept.format == ("JPEG" if pixels is noise else "PNG")
        assert not {"exif", "icc_profile", "comment", "dpi"} & set(kept.info)
        assert np.abs(np.asarray(kept, float) - pixels).mean() < 8


def test_a_metric_without_a_good_direction_only_describes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METRICS, "insertion", replace(METRICS["insertion"], better="neither"))
    found = made(metrics=("insertion@1",))
    text, seen = page(found, tmp_path)
    assert "Nothing was compared with the controls" in seen.text
    assert "describes only" in seen.text
    assert "better →" not in text
    assert seen.all("td")
    assert not [a for a in seen.all("tr") if "winner" in a.get("class", "")]


def test_the_command_writes_it_and_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "a secret place"
    photos.mkdir()
    Image.fromarray(scene(0).image).save(photos / "good.png")
    (photos / "bad.png").write_text("no image")
    out = tmp_path / "out"
    asked = f"--model demo/honest --method grad_cam --metric single_deletion --out {out}".split()
    monkeypatch.setattr("sys.argv", ["sightline", "evaluate", str(photos), *asked])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().out.splitlines()[-1].endswith(f"→ {out / 'report.html'}")
    text = (out / "report.html").read_text(encoding="utf-8")
    assert "bad.png" in Page(text).text
    assert "secret" not in text
    assert str(tmp_path) not in text


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match="cannot be written"):
        write_report(made(), tmp_path / "file" / "report.html")
