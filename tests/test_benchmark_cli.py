"""The ground-truth suite and ``sightline benchmark``: what they say, and of whom."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from sightline.cli import benchmark as command
from sightline.cli.main import app
from sightline.errors import ParameterError
from sightline.evaluation.truth import suite
from sightline.evaluation.truth.suite import CONTROLS, TESTS, Outcome, Sizes, Suite, benchmark

SMALL = Sizes(scenes=4, mosaics=2, tetrominoes=12, taught=300, stamped=4, handmade=3)
METHODS = "grad_cam,layer_cam,input_x_gradient,guided_backprop"


@pytest.fixture(scope="module")
def small() -> Suite:
    return benchmark(METHODS, sizes=SMALL, tests=["by hand", "scenes", "grid_pointing_game", "difull"])


def outcome(found: Suite, name: str) -> Outcome:
    return next(o for o in found.outcomes if o.name == name)


def mean(found: Suite, test: str, method: str) -> float:
    summary = outcome(found, test).summary(method)
    assert summary is not None
    return summary.mean


def test_the_suite_tells_methods_from_controls_and_from_one_another(small: Suite) -> None:
    assert list(small.methods) == [*METHODS.split(","), *CONTROLS]
    assert mean(small, "by hand", "input_x_gradient") == pytest.approx(1, abs=1e-5)
    assert mean(small, "difull", "layer_cam") == pytest.approx(1)
    assert mean(small, "difull", "grad_cam") < 0.99
    assert mean(small, "grid_pointing_game", "grad_cam") > mean(small, "grid_pointing_game", "layer_cam") > 0.25
    for test in ("by hand", "scenes", "grid_pointing_game", "difull"):
        assert mean(small, test, "constant") == pytest.approx(outcome(small, test).chance, abs=1e-3)
        assert not outcome(small, test).beats_controls("constant")


def test_values_pair_where_a_method_is_refused_or_marks_nothing(small: Suite) -> None:
    by_hand = outcome(small, "by hand")
    assert {len(v) for v in by_hand.values.values()} == {12}
    assert np.isnan(by_hand.values["guided_backprop"]).sum() == 3  # the linear net has no ReLU
    assert "no ReLU" in by_hand.refused["guided_backprop"]
    assert np.isnan(by_hand.values["grad_cam"]).sum() == 3  # weights that cancel out mark nothing


def test_the_sentences_say_what_the_numbers_do(small: Suite) -> None:
    said = dict(zip(METHODS.split(","), small.sentences, strict=True))
    assert re.search(r"[0-9]+% of its map lies on pictures that the score cannot see \(difull\)\.$", said["grad_cam"])
    assert "cannot see" not in said["layer_cam"]


def test_a_method_beats_the_controls_by_paired_tests_only() -> None:
    rng = np.random.default_rng(0)
    controls = {c: rng.random(20) for c in CONTROLS}
    better = np.maximum.reduce(list(controls.values())) + 0.1
    found = Outcome("x", "", 0.0, values={"gradient": better, "lrp": controls["random"] + 0.001, **controls})
    assert found.beats_controls("gradient")
    assert not found.beats_controls("lrp")


def test_the_same_seed_gives_the_same_and_no_other_generator_moves() -> None:
    state = torch.random.get_rng_state()
    first, second = (benchmark("gradient", sizes=SMALL, tests=["scenes"], seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.outcomes[0].values["gradient"], second.outcomes[0].values["gradient"])
    other = benchmark("gradient", sizes=SMALL, tests=["scenes"], seed=4)
    assert not np.array_equal(first.outcomes[0].values["gradient"], other.outcomes[0].values["gradient"])
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_net_that_has_not_learned_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "SCENARIOS", ("translation",))
    found = benchmark("gradient", sizes=SMALL, tests=["tetrominoes, correlated"]).outcomes[0]
    assert "left out, for what the net has not learned cannot be shown" in found.facts[1]
    assert found.summary("gradient") is None


def test_every_test_of_the_suite_gives_numbers_for_methods_and_controls() -> None:
    sizes = Sizes(mosaics=2, tetrominoes=4, taught=600, stamped=2)
    names = [t for t in TESTS if t.startswith(("tetrominoes, white", "watermark", "dipart"))]
    done: list[str] = []
    found = benchmark("input_x_gradient", sizes=sizes, tests=names, on_step=done.append)
    assert done == names
    for one in found.outcomes:
        assert all(one.summary(m) is not None for m in ("input_x_gradient", "random")), one.name
    assert found.seconds_of("input_x_gradient") > 0


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, small: Suite) -> CliRunner:
    monkeypatch.setattr(suite, "benchmark", lambda method, seed, on_step: small)
    return CliRunner()


def test_the_command_prints_sentences_a_table_with_chance_and_what_is_missing(quick: CliRunner) -> None:
    found = quick.invoke(app, ["benchmark", "--method", METHODS])
    assert found.exit_code == 0
    assert found.stdout.startswith("grad_cam: above every control in ")
    assert re.search(r"^ *chance +0\.\d\d ", found.stdout, re.MULTILINE)
    assert "undefined: by hand · grad_cam: 3 of 12 maps, which mark nothing" in found.stdout
    assert "skipped: by hand · guided_backprop: " in found.stdout
    assert re.match(r"cost: [0-9,]+ maps by 8 methods", found.stderr)


def test_the_command_writes_json_and_every_value(quick: CliRunner, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    found = quick.invoke(app, ["benchmark", "--method", METHODS, "--out", str(tmp_path), "--json"])
    said = json.loads(found.stdout)
    assert said == json.loads((tmp_path / "benchmark.json").read_text())
    assert said["tests"]["difull"]["methods"]["layer_cam"]["mean"] == pytest.approx(1)
    rows = pq.read_table(tmp_path / "benchmark.parquet").to_pylist()
    assert {r["method"] for r in rows} == {*METHODS.split(","), *CONTROLS}


def test_an_unknown_method_is_said_before_anything_runs() -> None:
    found = CliRunner().invoke(app, ["benchmark", "--method", "grad_camm"])
    assert isinstance(found.exception, ParameterError)
    assert "Did you mean grad_cam" in str(found.exception)


def test_the_defaults_of_the_command_are_those_of_the_suite() -> None:
    assert command._METHODS == suite.DEFAULT_METHODS
