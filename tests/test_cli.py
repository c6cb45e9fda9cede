"""The command line as a user meets it: output, files, errors, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from commands import sightline
from sightline.cli.console import file_part
from sightline.cli.session import parse_parameters, parse_preprocessing
from sightline.demo.scenes import scene
from sightline.errors import ParameterError

FACTORY = """
import torch
from torch import nn

def body(activation):
    pool = (nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), activation, *pool, nn.Linear(6, 4))

def net():
    torch.manual_seed(0)
    return body(nn.ReLU())

def smooth():
    torch.manual_seed(0)
    return body(nn.GELU())

def broken():
    raise RuntimeError("my own mistake")

number = 7
"""


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A directory with two scenes, a file that is no image, and a model factory."""
    Image.fromarray(scene(1).image).save(tmp_path / "one.png")
    Image.fromarray(scene(2).image).save(tmp_path / "two.jfif", format="JPEG")
    (tmp_path / "text.jpg").write_text("I am no image")
    (tmp_path / "factory.py").write_text(FACTORY)
    return tmp_path


def error_line(run: subprocess.CompletedProcess[str]) -> str:
    """The one line that a failing command prints."""
    assert run.returncode == 2, run.stderr
    assert "Traceback" not in run.stderr
    lines = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, run.stderr
    return lines[0]


def test_explain_writes_a_picture_and_numbers_for_each_image(work: Path) -> None:
    run = sightline(work, "explain", "one.png", "two.jfif", "--model", "demo/honest", "--out", "results")
    assert run.returncode == 0, run.stderr
    assert sorted(p.suffix for p in (work / "results").iterdir()) == [".npz", ".npz", ".png", ".png"]
    assert "grad_cam" in run.stdout
    assert "one.png" in run.stdout


def test_a_large_picture_is_explained_in_tiles(work: Path) -> None:
    Image.fromarray(np.concatenate((scene(1).image, scene(2).image), 1)).save(work / "wide.png")
    tiles = ("--tile", "96", "--overlap", "0.5")
    run = sightline(work, "explain", "wide.png", "--model", "demo/honest", *tiles, "--out", "o", "--json")
    (found,) = json.loads(run.stdout)["explanations"]
    assert run.returncode == 0, run.stderr
    assert found["parameters"]["tile"] == 96
    assert "tiles of 96 pixels" in found["notes"][0]
    with np.load(work / found["files"]["npz"]) as saved:
        assert saved["heatmap"].shape == (96, 192)


def test_json_is_one_object_with_everything(work: Path) -> None:
    run = sightline(
        work, "explain", "one.png", "missing.png", "--model", "demo/honest", "--method", "GradCAM,gradient",
        "--target", "top2", "--out", "o", "--json",
    )  # fmt: skip
    data = json.loads(run.stdout)
    assert run.returncode == 2
    assert set(data) == {"predictions", "explanations", "errors"}
    best = data["predictions"]["demo/honest"]["one.png"]
    assert set(best[0]) == {"index", "label", "id", "logit", "probability"}
    assert best[0]["probability"] >= best[1]["probability"]
    assert [(e["method"], e["target"]["index"]) for e in data["explanations"]] == [
        (m, best[i]["index"]) for m in ("grad_cam", "gradient") for i in (0, 1)
    ]
    wanted = {"image", "model", "method", "target", "layer", "parameters", "coverage", "completeness", "files"}
    assert wanted <= set(data["explanations"][0])
    assert all((work / f).exists() for e in data["explanations"] for f in e["files"].values())
    assert data["errors"] == [{"image": "missing.png", "message": data["errors"][0]["message"]}]


def test_nothing_is_written_outside_the_named_directory(work: Path) -> None:
    before = {p.name for p in work.iterdir()}
    sightline(work, "explain", "one.png", "--model", "demo/honest", "--out", "deep/er")
    assert {p.name for p in work.iterdir()} - before == {"deep"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["missing.png"], "does not exist"),
        (["."], "is a directory"),
        (["text.jpg"], "is not an image"),
        (["one.png", "--max-pixels", "100"], "9,216 pixels"),
        (["one.png", "--method", "gradcm"], "grad_cam"),
        (["one.png", "--target", "strr"], "Did you mean star"),
        (["one.png", "--target", "99"], "0 to 5"),
        (["one.png", "--set", "relo=true"], "Did you mean relu"),
        (["one.png", "--set", "relu=maybe"], "true or false"),
        (["one.png", "--set", "relu"], "name=value"),
        (["one.png", "--layer", "features.relu99"], "Did you mean"),
        (["one.png", "--layer", "head"], "no spatial extent"),
        (["one.png", "--contrast", "nonsense"], "no label"),
        (["one.png", "--labels", "missing.txt"], "labels file"),
        (["one.png", "--output", "logits"], "logit"),
        (["one.png", "--preprocess", "crop=big"], "a number"),
        (["one.png", "--colormap", "jett"], "jet"),
    ],
)
def test_bad_input_is_one_line(work: Path, arguments: list[str], says: str) -> None:
    run = sightline(work, "explain", *arguments, "--model", "demo/honest", "--out", "o")
    assert says in error_line(run)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("demo/honst", "demo/honest"),
        ("resnet81", "resnet18"),
        ("factory.py:nett", "Did you mean net"),
        ("factory.py:broken", "my own mistake"),
        ("factory.py:number", "no function"),
        ("nowhere.py:net", "does not exist"),
        ("no_such_package.zoo:net", "no_such_package"),
        ("weights.pt", "does not exist"),
        ("resnet18@missing.safetensors", "does not exist"),
    ],
)
def test_a_model_that_cannot_be_had_is_one_line(work: Path, model: str, says: str) -> None:
    assert says in error_line(sightline(work, "explain", "one.png", "--model", model))


def test_a_factory_is_explained_and_its_assumed_preprocessing_is_said(work: Path) -> None:
    run = sightline(work, "explain", "one.png", "--model", "factory.py:net", "--out", "o", "--json")
    assert run.returncode == 0, run.stderr
    assert "assumed" in run.stderr
    assert json.loads(run.stdout)["explanations"][0]["model"] == "factory.py:net"


def test_a_refused_method_leaves_the_others_done(work: Path) -> None:
    run = sightline(
        work, "explain", "one.png", "--model", "factory.py:smooth", "--method", "guided_backprop,grad_cam", "--out", "o"
    )
    assert "no ReLU" in error_line(run)
    assert len(list((work / "o").glob("*.png"))) == 1


def test_compare_lays_models_out_in_one_picture(work: Path) -> None:
    run = sightline(
        work, "compare", "one.png", "--model", "demo/honest,demo/cheating", "--method", "grad_cam,gradient",
        "--target", "top1,star", "--out", "grid.png", "--json",
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    data = json.loads(run.stdout)
    assert set(data["predictions"]) == {"demo/honest", "demo/cheating"}
    assert len(data["explanations"]) == 8
    with Image.open(work / "grid.png") as picture:
        assert min(picture.size) > 300


@pytest.mark.parametrize("command", [["methods"], ["layers", "demo/honest"]])
def test_listings_read_well_for_people_and_machines(work: Path, command: list[str]) -> None:
    people, machine = sightline(work, *command), sightline(work, *command, "--json")
    assert people.returncode == machine.returncode == 0
    assert "\x1b[" not in people.stdout
    assert isinstance(json.loads(machine.stdout), dict)


def test_layers_marks_the_default(work: Path) -> None:
    data = json.loads(sightline(work, "layers", "demo/honest", "--json").stdout)
    default = [layer for layer in data["models"]["demo/honest"]["layers"] if layer["default"]]
    assert [layer["map"] for layer in default] == [[12, 12]]


@pytest.mark.parametrize("arguments", [["--help"], ["explain", "--help"], ["--version"]])
def test_help_does_not_load_torch(work: Path, arguments: list[str]) -> None:
    code = (
        "import sys; from sightline.cli.main import main\n"
        "try: main()\n"
        "finally: print('torch' in sys.modules, file=sys.stderr)"
    )
    run = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=work, timeout=60)
    assert run.returncode == 0
    assert run.stderr.strip() == "False"


def test_usage_errors_exit_with_2_and_keep_json_on_stdout(work: Path) -> None:
    run = sightline(work, "explain", "one.png", "--modl", "x", "--json")
    assert run.returncode == 2
    assert json.loads(run.stdout)["errors"][0]["message"].startswith("No such option")
    missing = sightline(work, "export", "store", "--out", "x").stderr
    assert missing.startswith("error: Missing option '--to'. Choose from: png, npz,")
    assert missing.count("\n") == 1


def test_ctrl_c_says_so_and_leaves_nothing_half_written(work: Path) -> None:
    interrupting = (
        "def interrupted(*_, **__): raise KeyboardInterrupt\n"
        "import sightline.explanation\n"
        "sightline.explanation.Explanation.render = interrupted\n"
    )
    run = sightline(work, "explain", "one.png", "--model", "demo/honest", "--out", "o", before=interrupting)
    assert run.returncode == 130
    assert run.stderr.strip() == "interrupted"
    assert list((work / "o").iterdir()) == []


def test_two_images_of_one_name_do_not_overwrite_each_other(work: Path) -> None:
    (work / "other").mkdir()
    Image.fromarray(np.zeros((50, 60, 3), np.uint8)).save(work / "other" / "one.png")
    sightline(work, "explain", "one.png", "other/one.png", "--model", "demo/honest", "--target", "disc", "--out", "o")
    assert len(list((work / "o").glob("*.png"))) == 2


def test_a_name_becomes_a_safe_part_of_a_file_name() -> None:
    assert file_part("../../etc/passwd") == "etc_passwd"
    assert file_part("tiger cat") == "tiger_cat"
    assert file_part("...") == "_"


def test_settings_and_preprocessing_are_read() -> None:
    assert parse_parameters(["steps=20", "grad_cam.relu=no"]) == {"steps": "20", "grad_cam.relu": "no"}
    how = parse_preprocessing("resize=100x120,crop=none,mean=0.5/0.5/0.5,std=1/1/1,fit=pad")
    assert (how.resize, how.crop, how.mean, how.fit) == ((100, 120), None, (0.5, 0.5, 0.5), "pad")
    with pytest.raises(ParameterError, match="interpolation"):
        parse_preprocessing("interpolation=best")


def test_a_new_size_is_not_framed_by_the_old_crop() -> None:
    usual = parse_preprocessing("resize=256,crop=224")
    assert parse_preprocessing("resize=128x128", usual).describe().startswith("resized to 128x128")
    assert parse_preprocessing("scale=1", usual).crop == 224


def test_a_models_folders_are_no_part_of_a_results_name(tmp_path: Path) -> None:
    from sightline.cli.explain import short_name

    (tmp_path / "net.py").touch()
    assert short_name(f"{tmp_path}/net.py:make@some/weights.pt") == "net.py:make"
    assert short_name("demo/honest") == "demo/honest"
    assert short_name("resnet18@some/weights.pt") == "resnet18"


def test_brackets_of_formulas_and_names_are_printed_as_they_are(work: Path) -> None:
    listed = sightline(work, "methods").stdout
    assert "image: E[ds/dx" in listed
    assert "E[g²] - E[g]²" in listed
    assert "``" not in listed
    Image.fromarray(scene(1).image).save(work / "[bold]one.png")
    run = sightline(work, "explain", "[bold]one.png", "--model", "demo/honest", "--out", "o")
    assert run.returncode == 0, run.stderr
    assert "[bold]one.png" in run.stdout
