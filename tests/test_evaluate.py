"""Evaluations over images: controls, cost, budget, resuming, shortcuts, and what the command line makes of it."""

from __future__ import annotations

import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from sightline.cli.main import main
from sightline.demo.scenes import CLASSES, Scene, scene
from sightline.errors import ImageError, InputError, ParameterError, TargetError
from sightline.evaluation.measuring import counted
from sightline.evaluation.run import Cost, evaluate
from sightline.evaluation.shortcuts import CellRow, find_shortcut, shortcut_sentence
from sightline.evaluation.stats import compared, summarised
from sightline.models.load import load
from sightline.samples import Sample

SCENES = [scene(9000 + i, watermark=i % 2 == 0) for i in range(24)]
PICTURES = [s.image for s in SCENES]
FEW = {"deletion.steps": 4}


def object_of(sample: Sample) -> np.ndarray:
    return SCENES[next(i for i, p in enumerate(PICTURES) if np.array_equal(p, sample.pixels))].object_mask


def saved(folder: Path, scenes: list[Scene]) -> Path:
    for number, one in enumerate(scenes):
        place = folder / CLASSES[one.label]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(one.image).save(place / f"{number}.png")
    return folder


def run_cli(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["sightline", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    return int(left.value.code or 0)


def test_controls_stand_in_every_table_and_rows_are_per_image() -> None:
    found = evaluate("demo/honest", PICTURES[:3], "grad_cam", "single_deletion,insertion")
    assert found.methods == ["grad_cam", "random", "edges", "centre", "constant"]
    assert all(len(found.values(m, "insertion")) == 3 for m in found.methods)
    assert np.isnan(found.values("constant", "single_deletion")).all()
    assert found.summary("single_deletion")["constant"].undefined == 3
    assert found.beats_controls("insertion", "random") is False


def test_a_batch_of_any_size_gives_the_same_rows() -> None:
    few = {"parameters": FEW, "cards": 0}
    one = evaluate("demo/honest", PICTURES[:3], "gradient", "single_deletion,deletion", batch_size=1, **few)
    many = evaluate("demo/honest", PICTURES[:3], "gradient", "single_deletion,deletion", batch_size=2, **few)
    for method in one.methods:
        for metric in ("single_deletion", "deletion"):
            np.testing.assert_allclose(one.values(method, metric), many.values(method, metric), atol=1e-5)


def test_predictions_are_shared_between_methods() -> None:
    model = load("demo/honest")

    def forwards(methods: str) -> int:
        with counted(model) as passed:
            evaluate(model, PICTURES[:4], methods, "single_deletion", cards=0)
        return passed[0]

    # Each further method costs its own explanation only: the sixteen covered cells are swept once.
    assert forwards("gradient,input_x_gradient") - forwards("gradient") == 4


def test_neither_the_global_seed_nor_the_order_matters() -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first = evaluate("demo/honest", PICTURES[:2], "gradient", "deletion", seed=1, cards=1, parameters=FEW)
    assert torch.equal(before, torch.random.get_rng_state())
    again = evaluate("demo/honest", PICTURES[:2], "gradient", "deletion", seed=1, cards=1, parameters=FEW)
    np.testing.assert_array_equal(first.values("random", "deletion"), again.values("random", "deletion"))


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    whole = evaluate("demo/honest", PICTURES[:6], "gradient", "deletion", batch_size=2, parameters=FEW, cards=0)

    def stop(images: int, seen: list[int] = []) -> None:  # noqa: B006
        seen.append(images)
        if sum(seen) > 3:
            raise KeyboardInterrupt

    model = load("demo/honest")
    with pytest.raises(KeyboardInterrupt):
        evaluate(model, PICTURES[:6], "gradient", "deletion", batch_size=2, parameters=FEW, out=tmp_path, on_step=stop)
    with counted(model) as passed:
        rest = evaluate(
            model, PICTURES[:6], "gradient", "deletion", batch_size=2, parameters=FEW, out=tmp_path, cards=0
        )
    assert 0 < passed[0] < whole.cost["forward_passes"]
    values = {(r.image, r.method): r.value for r in rest.rows}
    assert values == pytest.approx({(r.image, r.method): r.value for r in whole.rows}, abs=1e-5)
    assert pq.read_table(tmp_path / "results.parquet").num_rows == len(whole.rows)
    assert pq.read_table(tmp_path / "curves.parquet").num_rows == 6 * 5 * 5


def test_a_directory_of_another_run_is_not_mixed_in(tmp_path: Path) -> None:
    evaluate("demo/honest", PICTURES[:2], "gradient", "single_deletion", out=tmp_path)
    with pytest.raises(InputError, match=r"other settings \(metrics\)"):
        evaluate("demo/honest", PICTURES[:2], "gradient", "deletion", out=tmp_path)


def test_the_cost_is_said_before_the_rest_is_done() -> None:
    order: list[Any] = []
    evaluate("demo/honest", PICTURES[:6], "gradient", "single_deletion", on_cost=order.append, on_step=order.append)
    cost = next(o for o in order if isinstance(o, Cost))
    assert order.index(cost) == 2
    assert cost.images == 6
    assert cost.forwards_each == 5 + 1 + 16  # five maps, the recording, sixteen covered cells
    assert cost.seconds > 0


def test_a_budget_ends_the_run_and_one_too_small_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count()
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(ticks)))
    found = evaluate("demo/honest", PICTURES, "gradient", "single_deletion", budget=100, batch_size=1)
    assert 0 < found.cost["measured"] < len(PICTURES)
    assert found.cost["asked"] == len(PICTURES)
    reasons = [s["reason"] for s in found.skipped]
    assert any("the budget of 100 s ended the run" in r for r in reasons)
    assert any("no time for trust cards" in r for r in reasons)
    assert not any(e.check for maps in found.shown for e in maps)
    with pytest.raises(ParameterError, match="too small: one image took"):
        evaluate("demo/honest", PICTURES[:3], "gradient", "deletion", budget=1e-6)


def test_a_limit_draws_images_and_does_not_take_the_first() -> None:
    found = evaluate("demo/honest", PICTURES, "constant", "deletion", limit=4, parameters=FEW)
    assert len(found.images) == 4
    numbers = [int(name.removeprefix("image ")) for name in found.images]
    assert sorted(numbers) != [0, 1, 2, 3]
    explained = evaluate("demo/honest", PICTURES[numbers[0]], "constant", "deletion", parameters=FEW)
    assert explained.rows[0].image_hash == next(r for r in found.rows if r.image == found.images[0]).image_hash


def test_a_shortcut_is_found_in_the_cheating_model_and_not_in_the_honest_one() -> None:
    for name, count, verdict in (("cheating", 12, "takes a shortcut"), ("honest", 24, "No shortcut found")):
        found = evaluate(f"demo/{name}", PICTURES[:count], "constant", "single_deletion", truth=object_of, cards=0)
        assert verdict in found.findings[0]
    cheating = evaluate("demo/cheating", PICTURES[:12], "constant", "single_deletion", cards=0).findings[0]
    assert "may take a shortcut" in cheating
    assert "lower right corner" in cheating
    assert "“star”" in cheating


def _rows(flips: dict[int, float], images: int = 40) -> list[CellRow]:
    return [
        CellRow(f"{i}.png", "star", cell, 0.1, i < round(images * flips.get(cell, 0.02)), 0.0)
        for cell in range(16)
        for i in range(images)
    ]


def test_a_place_is_named_only_where_it_stands_out() -> None:
    assert find_shortcut(_rows({})) is None
    assert find_shortcut(_rows(dict.fromkeys(range(16), 0.4))) is None
    found = find_shortcut(_rows({12: 0.5}))
    assert found is not None
    assert (found.cells, found.flips, found.images) == ((12,), 20, 40)
    assert "lower left corner" in (shortcut_sentence(_rows({12: 0.5})) or "")
    assert "Too few images (4)" in (shortcut_sentence(_rows({}, images=4)) or "")
    assert shortcut_sentence([]) is None


def test_a_place_that_may_stand_out_is_no_all_clear() -> None:
    said = shortcut_sentence(_rows({12: 0.5}, images=6)) or ""
    assert "Too few images to say" in said
    assert "lower left corner changes the answer in 3 of 6 images" in said
    assert "No shortcut found in 40 images" in (shortcut_sentence(_rows({})) or "")


def test_masks_of_few_images_do_not_hide_a_shortcut() -> None:
    few = iter([True] * 3 + [False] * 9)
    found = evaluate(
        "demo/cheating",
        PICTURES[:12],
        "constant",
        "single_deletion",
        truth=lambda s: object_of(s) if next(few) else None,
    )
    assert "may take a shortcut" in found.findings[0]


def test_masks_are_taken_as_arrays() -> None:
    masks = np.stack([s.object_mask for s in SCENES])[:4]
    given = evaluate("demo/honest", PICTURES[:4], "gradient", "energy_pointing_game", truth=masks, cards=0)
    asked = evaluate("demo/honest", PICTURES[:4], "gradient", "energy_pointing_game", truth=object_of, cards=0)
    np.testing.assert_array_equal(
        given.values("gradient", "energy_pointing_game"), asked.values("gradient", "energy_pointing_game")
    )
    nowhere = np.zeros((2, 96, 96), bool)
    scenes = evaluate("demo/honest", "demo/scenes", "gradient", "energy_pointing_game", truth=nowhere, limit=2, cards=0)
    assert np.isnan(scenes.values("gradient", "energy_pointing_game")).all()
    with pytest.raises(InputError, match="3 masks came for 4 images"):
        evaluate("demo/honest", PICTURES[:4], "gradient", "energy_pointing_game", truth=masks[:3])


def test_random_noise_is_anothers_for_each_image_and_its_mean_is_chance() -> None:
    found = evaluate("demo/honest", PICTURES[:12], "random", "pointing_game", truth=object_of, cards=0)
    one, other = (found.values("random", "pointing_game"), found.values("constant", "pointing_game"))
    assert 0 < one.mean() < 1
    assert abs(one.mean() - other.mean()) < 3 * one.std() / len(one) ** 0.5 + 0.1


def test_what_fails_for_all_is_said_once() -> None:
    with pytest.raises(InputError, match="nothing can be measured"):
        evaluate(lambda x: x.sum(), PICTURES[:4], "occlusion", "single_deletion", on_failure=lambda _: None)


def test_a_method_that_does_not_fit_is_skipped_with_its_reason() -> None:
    found = evaluate("demo/vit", PICTURES[:2], "guided_backprop,gradient", "single_deletion")
    assert "gradient" in found.methods
    reason = next(s for s in found.skipped if s["method"] == "guided_backprop")
    assert reason["image"] is None
    assert reason["reason"]


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"metric": "pointing_gamee"}, ParameterError, "no metric 'pointing_gamee'"),
        ({"metric": "deletion@9"}, ParameterError, "computes deletion@1"),
        ({"parameters": {"deletion.step": 3}}, ParameterError, "deletion has no parameter 'step'"),
        ({"parameters": {"insertion.steps": 3}}, ParameterError, "insertion is not among the metrics"),
        ({"target": "top2"}, TargetError, "one for each image"),
        ({"limit": 0}, ParameterError, "at least 1"),
    ],
)
def test_what_cannot_be_asked_is_said(arguments: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        evaluate("demo/honest", PICTURES[:2], "gradient", **({"metric": "deletion"} | arguments))


def test_means_and_paired_tests() -> None:
    assert summarised(np.array([np.nan])).count == 0
    assert compared(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0])).p == 1.0
    gaps = np.random.default_rng(0).normal(1, 1, 40)
    assert compared(gaps, np.zeros(40)).p < 0.001
    assert compared(gaps, np.zeros(40)).difference == pytest.approx(gaps.mean())
    exact = compared(np.array([1.0, 2.0, 3.0, 4.0]), np.zeros(4))
    assert exact.p == pytest.approx(2 / 2**4)


def test_the_command_prints_json_and_skips_what_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = saved(tmp_path / "in", SCENES[:3])
    (folder / "broken.png").write_bytes(b"no picture")
    (folder / "readme.txt").write_text("no image, and no error")
    out = tmp_path / "out"
    code = run_cli(
        monkeypatch, "evaluate", str(folder), "--model", "demo/honest", "--method", "gradient", "--metric", "deletion",
        "--set", "deletion.steps=4", "--out", str(out), "--json",
    )  # fmt: skip
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert code == 2
    assert found["images"] == 3
    assert found["settings"]["metrics"]["deletion@1"]["steps"] == 4
    assert [s["image"] for s in found["skipped"]] == ["broken.png"]
    assert "broken.png" in printed.err
    assert "cost:" in printed.err
    assert {r["image"].count("/") for r in pq.read_table(out / "results.parquet").to_pylist()} == {1}


def test_an_empty_folder_and_a_bad_time_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(monkeypatch, "evaluate", str(tmp_path), "--model", "demo/honest") == 2
    assert "holds no images" in capsys.readouterr().err
    assert run_cli(monkeypatch, "evaluate", str(tmp_path), "--model", "demo/honest", "--budget", "soon") == 2
    assert "wanted a time" in capsys.readouterr().err


def test_all_unreadable_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(ImageError):
        evaluate("demo/honest", [str(tmp_path / "a.png")], "gradient", "deletion")


def test_the_metrics_are_listed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(monkeypatch, "metrics", "--json") == 0
    listed = json.loads(capsys.readouterr().out)["metrics"]
    assert {"single_deletion", "insertion", "deletion"} <= {m["name"] for m in listed}
    assert all(
        m["summary"].endswith(".") and m["cite"] and m["better"] in ("higher", "lower", "neither") for m in listed
    )
