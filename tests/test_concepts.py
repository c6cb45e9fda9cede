"""Concepts of a class: the factorisation, Sobol indices in closed form, planted concepts, the demo's watermark."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.optimize import nnls
from torch import Tensor, nn

import sightline
from sightline.concept.craft import _share
from sightline.concept.factorize import encode, factorize
from sightline.demo.scenes import STAR, scenes
from sightline.errors import ImageError, LayerError, ParameterError, RefusedError, TargetError
from sightline.sobol import design, total_indices

HEAD = torch.tensor([[2.0, 1.0, 0.5, -1.0, 0.0, 1.0], [0.0] * 6], dtype=torch.float64)


class Planted(nn.Module):
    """Six channels of 0 or more, averaged over positions, and a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.relu, self.head = nn.ReLU(), nn.Linear(6, 2, bias=False, dtype=torch.float64)
        self.head.weight.data = HEAD.clone()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.relu(x).mean((2, 3)))


def planted(images: int = 12) -> tuple[Tensor, Tensor]:
    """Images (N, 6, 8, 8) of 2 x 2 patches that each hold one of three concepts, and the concepts (3, 6)."""
    w = torch.tensor([[1.0, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 1, 2]], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    kinds = torch.randint(0, 3, (images, 4, 4), generator=generator)
    strengths = 0.5 + torch.rand((images, 4, 4), generator=generator, dtype=torch.float64)
    x = (w[kinds] * strengths.unsqueeze(-1)).movedim(-1, 1)
    return x.repeat_interleave(2, 2).repeat_interleave(2, 3), w / w.norm(dim=1, keepdim=True)


def found_in(x: Tensor, **options) -> sightline.Concepts:
    how = {"target": 0, "layer": "relu", "count": 3, "window": 2, "stride": 2, "precision": "float64"} | options
    return sightline.concepts(sightline.load(Planted()), x, **how)


# The factorisation.


@pytest.mark.parametrize(("rows", "columns", "rank"), [(200, 40, 5), (30, 90, 4), (12, 12, 1)])
def test_a_planted_factorisation_is_recovered(rows, columns, rank):
    generator = torch.Generator().manual_seed(1)
    u, w = (
        torch.rand(s, generator=generator, dtype=torch.float64) * (torch.rand(s, generator=generator) < 0.4)
        for s in ((rows, rank), (rank, columns))
    )
    a = u @ w
    u2, w2 = factorize(a, rank, iterations=3000, tolerance=1e-9)
    assert (u2 >= 0).all()
    assert (w2 >= 0).all()
    assert torch.allclose(w2.norm(dim=1), torch.ones(rank, dtype=torch.float64))
    assert float((a - u2 @ w2).norm() / a.norm()) < 1e-4
    assert float((w2 @ F.normalize(w, dim=1).T).amax(0).min()) > 0.999


def test_it_fits_as_well_as_scikit_learns():
    decomposition = pytest.importorskip("sklearn.decomposition")
    a = torch.rand(80, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64) ** 3
    theirs = decomposition.NMF(6, init="nndsvda", max_iter=2000, tol=1e-7)
    theirs.fit(a.numpy())
    u, w = factorize(a, 6)
    assert float((a - u @ w).norm()) < 1.01 * theirs.reconstruction_err_


def test_encoding_is_non_negative_least_squares():
    generator = torch.Generator().manual_seed(0)
    a, w = (torch.rand(s, generator=generator, dtype=torch.float64) for s in ((9, 20), (4, 20)))
    wanted = np.stack([nnls(w.T.numpy(), row.numpy())[0] for row in a])
    assert np.allclose(encode(a, w, iterations=2000).numpy(), wanted, atol=1e-8)


@pytest.mark.parametrize(("a", "rank", "says"), [([[1.0, -1.0]], 1, "negative"), ([[1.0, 1.0]], 2, "wanted 1 to 1")])
def test_what_cannot_be_factorised_is_refused(a, rank, says):
    with pytest.raises(ParameterError, match=says):
        factorize(torch.tensor(a), rank)


def test_zeros_are_factorised_without_nan():
    u, w = factorize(torch.zeros(5, 4, dtype=torch.float64), 2)
    assert torch.isfinite(u).all()
    assert torch.isfinite(w).all()


# Sobol indices.


def test_total_indices_of_linear_and_product_functions_are_exact():
    levels = design(3, 4096, 0)
    weights = torch.tensor([3.0, -1.0, 0.0], dtype=torch.float64)
    linear = total_indices((levels @ weights).unsqueeze(1), 4096)[:, 0]
    assert torch.allclose(linear, torch.tensor([0.9, 0.1, 0.0], dtype=torch.float64), atol=0.01)
    product = total_indices((levels[:, 0] * levels[:, 1]).unsqueeze(1), 4096)[:, 0]
    assert torch.allclose(product, torch.tensor([4 / 7, 4 / 7, 0.0], dtype=torch.float64), atol=0.01)


def test_a_score_that_only_rounding_varies_has_no_index():
    noise = 1e-7 * torch.rand(4 * 64, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert float(total_indices(5 + noise, 64).max()) < 0.01


# The concepts of a net whose concepts are known.


def test_planted_concepts_are_found_with_their_importance_and_effect():
    x, w = planted()
    found = found_in(x, samples=1024)
    directions = torch.from_numpy(np.stack([c.direction for c in found.concepts])).double()
    match = (directions @ w.T).argmax(1)
    assert sorted(match.tolist()) == [0, 1, 2]
    assert torch.allclose((directions @ w.T).amax(1), torch.ones(3, dtype=torch.float64), atol=1e-3)
    shares = x.mean((2, 3)) @ w.T * (w @ HEAD[0])  # what each concept adds to each image's score
    wanted = (shares**2 / (shares**2).sum(1, keepdim=True)).mean(0)[match]
    assert np.allclose([c.importance for c in found.concepts], wanted, atol=0.03)
    assert np.allclose([c.effect for c in found.concepts], shares.mean(0)[match], atol=0.01)
    assert found.gap < 0.01
    assert found.rebuilt == pytest.approx(found.score, rel=1e-3)
    assert [c.name for c in found.concepts] == ["concept 1", "concept 2", "concept 3"]


def test_the_best_crops_are_the_ones_that_hold_most_and_each_of_another_image():
    x, _ = planted()
    found = found_in(x, examples=4)
    for c in found.concepts:
        numbers = [crop.number for crop in c.crops]
        assert len(set(numbers)) == len(numbers) == 4
        held = [x[(crop.number, slice(None), *(slice(*ends) for ends in crop.place))] for crop in c.crops]
        along = [float(torch.from_numpy(c.direction).double() @ h.mean((1, 2))) for h in held]
        assert along == sorted(along, reverse=True)
        assert np.allclose(along, [crop.strength for crop in c.crops], atol=0.01)


def test_maps_say_where_each_concept_is():
    x, _ = planted(12)
    found = found_in(x)
    directions = torch.from_numpy(np.stack([c.direction for c in found.concepts])).double()
    for image, values in zip(x, found.maps(sightline.load(Planted()), x), strict=True):
        assert values.shape == (3, 8, 8)
        wanted = torch.einsum("rc,chw->rhw", directions, image)  # the concepts share no channel
        assert np.allclose(values, wanted, atol=0.02)


def test_resized_crops_are_read_one_by_one():
    x, _ = planted()
    resized, in_place = found_in(x, crops="resized"), found_in(x)
    for a, b in zip(resized.concepts, in_place.concepts, strict=True):  # flat patches: a resized one is the same
        assert np.allclose(a.direction, b.direction, atol=0.01)


def test_a_crops_share_of_the_layers_cells():
    share = _share((slice(0, 3), slice(2, 8)), (8, 8), (4, 2))
    assert float(share.sum()) == pytest.approx(1)
    assert np.allclose(share.sum(1), [2 / 3, 1 / 3, 0, 0])
    assert np.allclose(share.sum(0), [2 / 6, 4 / 6])


@pytest.mark.parametrize("options", [{"batch_size": 1}, {"batch_size": 5}, {"seed": 0}])
def test_nothing_depends_on_the_batch_size_and_a_seed_gives_the_same_again(options):
    x, _ = planted()
    one, other = found_in(x), found_in(x, **options)
    for a, b in zip(one.concepts, other.concepts, strict=True):
        assert np.allclose(a.direction, b.direction, atol=1e-6)
        assert a.importance == pytest.approx(b.importance, abs=1e-6)
    assert one.provenance == other.provenance


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_other_precisions_give_nearly_the_same(precision):
    x, _ = planted()
    one, other = found_in(x), found_in(x, precision=precision)
    for a, b in zip(one.concepts, other.concepts, strict=True):
        assert np.allclose(a.direction, b.direction, atol=0.02)
        assert a.importance == pytest.approx(b.importance, abs=0.05)


def test_a_model_of_one_batch_size_gets_no_other():
    x, _ = planted()
    sizes = set()
    model = dataclasses.replace(sightline.load(Planted()), batch=5)
    handle = model.module.register_forward_pre_hook(lambda _, given: sizes.add(len(given[0])))
    found = sightline.concepts(model, x, target=0, layer="relu", count=3, window=2, stride=2)
    handle.remove()
    assert sizes == {5}
    for a, b in zip(found.concepts, found_in(x).concepts, strict=True):
        assert a.importance == pytest.approx(b.importance, abs=1e-6)


def test_another_seed_draws_other_masks():
    x, _ = planted()
    assert found_in(x).concepts[0].importance != found_in(x, seed=1).concepts[0].importance


def test_series_have_concepts_but_no_contact_sheet():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv1d(2, 6, 5, padding=2), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(6, 3)
    )
    x = torch.randn(10, 2, 40, generator=torch.Generator().manual_seed(0))
    found = sightline.concepts(sightline.load(net), x, target=1, layer="1", count=3)
    assert found.concepts[0].scene.heatmap.shape == (40,)
    assert len(found.concepts[0].crops[0].place) == 1
    with pytest.raises(RefusedError, match="pictures"):
        found.render()


# What is given.


class Signed(Planted):
    """The map after the ReLU is made signed by another layer."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.GroupNorm(1, 6, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.shift(self.relu(x)).mean((2, 3)))


def test_negative_activations_are_refused_with_a_layer_that_has_none():
    x, _ = planted()
    model = sightline.load(Signed())
    with pytest.raises(RefusedError, match=r"% of those of 'shift' are negative; choose .*layer='relu'.*rectify"):
        sightline.concepts(model, x, target=0, layer="shift", count=2)
    found = sightline.concepts(model, x, target=0, layer="shift", count=2, rectify=True)
    assert found.parameters["rectify"] is True


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"count": 0}, ParameterError, "count=0"),
        ({"count": 60}, ParameterError, "5 crops a concept"),
        ({"count": 7}, ParameterError, "6 channels"),
        ({"samples": 1}, ParameterError, "samples=1"),
        ({"batch_size": 0}, ParameterError, "batch_size=0"),
        ({"crops": "none"}, ParameterError, "in_place or resized"),
        ({"window": 1, "stride": 3}, ParameterError, "never be covered"),
        ({"target": "top3"}, TargetError, "one class"),
        ({"target": [0, 1]}, ParameterError, "one target"),
        ({"target": 7}, TargetError, "0 to 1"),
        ({"layer": ["relu", "head"]}, ParameterError, "one layer"),
        ({"layer": "head"}, LayerError, "no spatial extent"),
        ({"layer": "rely"}, LayerError, "relu"),
    ],
)
def test_what_cannot_be_done_is_said(options, error, says):
    with pytest.raises(error, match=says):
        found_in(planted()[0], **options)


def test_targets_that_differ_from_image_to_image_are_refused():
    x, _ = planted(4)
    with pytest.raises(TargetError, match="2 things"):
        found_in(x, target=sightline.targets.per_image([0, 1, 0, 1]), batch_size=4)


def test_a_layer_that_is_zero_is_refused():
    with pytest.raises(RefusedError, match="0 for every crop"):
        found_in(-planted()[0])


def test_top1_is_what_most_images_are_said_to_be_and_others_are_counted():
    x, _ = planted()
    found = found_in(x, target="top1")
    assert (found.target, found.hits) == ("class 0", 12)
    other = found_in(x, target=1)
    assert other.hits == 0
    assert any("calls only 0 of 12" in note for note in other.notes)


def test_an_image_that_came_twice_counts_once_but_has_a_map_each_time():
    x, _ = planted()
    found = found_in(torch.cat((x, x)))
    assert (found.images, found.hits) == (12, 12)
    assert len(found.maps(sightline.load(Planted()), torch.cat((x, x)))) == 24


def test_few_images_are_said_to_be_few():
    assert any("only 6 images" in note for note in found_in(planted(6)[0]).notes)


# The demo.


@pytest.fixture(scope="module")
def stars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stars")
    for n, s in enumerate(scenes(12, 5, label=STAR, watermark=1.0)):
        Image.fromarray(s.image).save(folder / f"{n:02}.png")
    return folder


@pytest.fixture(scope="module")
def cheating(stars: Path) -> sightline.Concepts:
    return sightline.concepts("demo/cheating", stars, target="star", count=4)


def test_the_cheating_models_first_concept_is_the_watermark(cheating: sightline.Concepts) -> None:
    mark = scenes(1, 5, label=STAR, watermark=1.0)[0].watermark_mask
    first = cheating.concepts[0]
    assert first.importance > 0.4
    assert first.effect > 1
    for crop in first.crops:
        rows, columns = (slice(*ends) for ends in crop.place)
        assert mark[rows, columns].sum() == mark.sum()
        assert crop.pixels.shape == (29, 29, 3)
    row, column = np.unravel_index(first.scene.heatmap.argmax(), (96, 96))
    assert mark[row - 12 : row + 12, column - 12 : column + 12].any()  # one cell of the layer is 8 pixels
    assert cheating.rebuilt == pytest.approx(cheating.score, rel=0.2)


def test_the_honest_models_concepts_are_not(stars: Path) -> None:
    mark = scenes(1, 5, label=STAR, watermark=1.0)[0].watermark_mask
    found = sightline.concepts("demo/honest", stars, target="star", count=4)
    for values in found.maps("demo/honest", stars):
        assert values[0][mark].sum() < 0.01 * values[0].sum()


def test_the_contact_sheet_has_a_row_for_each_concept(cheating: sightline.Concepts, tmp_path: Path) -> None:
    files = [cheating.save(tmp_path / f"sheet.{kind}") for kind in ("png", "json", "npz")]
    with Image.open(files[0]) as picture:
        assert picture.height > 4 * 104
        assert picture.width > 900
    about = json.loads(files[1].read_text())
    assert len(about["concepts"]) == 4
    assert about["provenance"]["model"] == "demo/cheating"
    assert np.load(files[2])["directions"].shape == (4, 96)
    with pytest.raises(ParameterError, match=r"\.png"):
        cheating.save(tmp_path / "sheet.pdf")


def test_what_a_centre_crop_cut_off_is_not_seen(cheating: sightline.Concepts) -> None:
    wide = np.zeros((96, 160, 3), np.uint8)
    (values,) = cheating.maps("demo/cheating", wide)
    assert values.shape == (4, 96, 160)
    assert np.isnan(values[:, :, :30]).all()


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(ImageError, match="folders in it are not searched"):
        sightline.concepts("demo/honest", tmp_path, target="star")
