"""What is explained: classes by index, label and rank, contrasts, regions, units, similarities, functions."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sightline
from nets import make
from sightline.engine import explanations
from sightline.errors import ParameterError, RefusedError, TargetError
from sightline.geometry import Preprocessing
from sightline.labels import Labels
from sightline.targets import (
    Contrast,
    PerImage,
    contrast,
    joint,
    layers_of,
    part_of,
    per_image,
    region,
    regression,
    similarity,
    split_targets,
    unit,
)

NAMES = ("tabby, tabby cat", "crane", "Egyptian_cat", "crane", "7")
IDS = ("n1", "n2", "n3", "n4", "n5")
LABELS = Labels(NAMES, IDS)


@pytest.fixture(scope="module")
def model() -> sightline.Model:
    return sightline.load(make("conv", torch.float64)[0], labels=LABELS)


@pytest.fixture(scope="module")
def x() -> Tensor:
    return make("conv", torch.float64, images=5)[1]


@pytest.fixture(scope="module")
def logits(model, x) -> Tensor:
    with torch.no_grad():
        return model.module(x)


def explain(model: Any, x: Tensor, target: Any, **how: Any) -> list[sightline.Explanation]:
    return sightline.explain(model, x, "gradient", target, **how)


def gradient(model: sightline.Model, x: Tensor, score: Any) -> np.ndarray:
    """The gradient of the summed score of the model's output, by hand."""
    leaf = x.clone().requires_grad_()
    return torch.autograd.grad(score(model.module(leaf)).sum(), leaf)[0].float().numpy()


def scores(found: list[sightline.Explanation]) -> list[float]:
    return [e.score for e in found]


def maps(found: list[sightline.Explanation]) -> np.ndarray:
    return np.stack([e.attribution for e in found])


# --- by rank --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", ["top1", "top", "TOP1", "top-1", "top 1", " top_1 "])
def test_top1_is_each_images_own_best(model, x, logits, said):
    found = explain(model, x, said)
    assert [e.target.index for e in found] == logits.argmax(1).tolist()
    assert scores(found) == pytest.approx(logits.max(1).values.tolist())
    assert np.allclose(maps(found), gradient(model, x, lambda z: z.max(1).values), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("k", [2, 3, 5])
def test_top_k_gives_k_for_each_image_best_first(model, x, logits, k):
    found = explain(model, x, f"top{k}")
    assert [e.target.index for e in found] == logits.topk(k).indices.flatten().tolist()
    assert scores(found) == pytest.approx(logits.topk(k).values.flatten().tolist())


@pytest.mark.parametrize("said", ["top0", "top6", "top99"])
def test_a_rank_that_is_not_there_is_refused(model, x, said):
    with pytest.raises(TargetError, match=f"{said}: the model has 5 classes; give top1 to top5"):
        explain(model, x, said)


@pytest.mark.parametrize("target", [contrast("top2", 0), joint(1, "top3"), per_image(["top2"] * 5)])
def test_several_where_one_is_wanted_are_refused(model, x, target):
    with pytest.raises(TargetError, match="is several classes; wanted one"):
        explain(model, x, target)


def test_both_sides_of_a_binary_model_have_a_rank():
    net, x = make("binary")
    found = explain(net, x, "top2")
    assert [sorted(e.target.index for e in found[i : i + 2]) for i in (0, 2, 4)] == [[0, 1]] * 3
    assert all(found[i].score == -found[i + 1].score >= 0 for i in (0, 2, 4))


def test_a_class_that_is_called_top1_wins_over_the_rank():
    net, x = make("conv")
    labelled = sightline.load(net, labels=["a", "b", "top1", "d", "e"])
    assert [e.target.index for e in explain(labelled, x, "top1")] == [2, 2, 2]


# --- by index and label ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "index"),
    [
        (0, 0), (4, 4), (np.int64(3), 3), (np.int32(3), 3), (np.uint8(2), 2), ("3", 3), (" 3 ", 3), ("index:3", 3),
        ("INDEX: 3", 3), ("Egyptian cat", 2), ("egyptian_CAT", 2), (" Egyptian  cat ", 2), ("tabby", 0),
        ("Tabby Cat", 0), ("tabby, tabby cat", 0), ("TABBY,tabby_cat", 0), ("n4", 3), ("N4", 3), ("label:7", 4),
        ("LABEL: egyptian cat", 2),
    ],
)  # fmt: skip
def test_one_class_in_many_words(model, x, logits, said, index):
    found = explain(model, x, said)
    assert {(e.target.index, e.target.label) for e in found} == {(index, NAMES[index])}
    assert scores(found) == pytest.approx(logits[:, index].tolist())


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("crane", r"label 'crane' stands for several classes; give the index: 1 or 3\."),
        ("label:crane", "give the index: 1 or 3"),
        ("egyptian", "Did you mean Egyptian_cat"),
        ("egiptian cat", "Did you mean egyptian cat"),
        ("cat", "Did you mean tabby, tabby cat or Egyptian_cat"),
        ("zebra", "no label 'zebra'. Give an index"),
        ("label:8", "no label '8'"),
        ("7", "class 7: the model has 5 classes, numbered 0 to 4"),  # a number is an index, whatever the labels
        (5, "class 5: the model has 5 classes"),
        (-1, "class -1"),
        ("-1", "class -1"),
        ("index:9", "class 9"),
        (np.int64(10**6), "class 1000000"),
        ("--5", "no label '--5'"),
        ("1.5", "no label '1.5'"),
        ("²", "no label '²'"),
        ("", "no label ''"),
        (True, "target True: wanted a class index"),
        (np.True_, "target np.True_: wanted"),
        (1.5, "target 1.5: wanted 'top1'"),
        (None, "target None: wanted"),
        (b"crane", "wanted 'top1'"),
        ({"class": 1}, "wanted 'top1'"),
    ],
)
def test_what_is_no_class_is_refused(model, x, said, message):
    with pytest.raises(TargetError, match=re.escape(message) if "\\" not in message else message):
        explain(model, x, said)


def test_a_model_without_names_takes_indices_and_says_so():
    net, x = make("conv")
    assert {e.target.label for e in explain(net, x, 2)} == {"class 2"}
    with pytest.raises(TargetError, match=r"label 'crane': this model has no class names; give an index or --labels"):
        explain(net, x, "crane")


@pytest.mark.parametrize("bad", [-1, 5, "zebra"])
def test_a_wrong_class_inside_another_target_is_refused(model, x, bad):
    for target in (contrast(0, bad), contrast(bad, 0), joint(0, bad), per_image([0, 1, 2, 3, bad]), [0, bad]):
        with pytest.raises(TargetError, match=r"no label|numbered 0 to 4"):
            explain(model, x, target)


# --- several --------------------------------------------------------------------------------------------------------


def test_a_list_is_several_for_each_image(model, x):
    found = explain(model, x, [2, "top1", contrast(0, 1)])
    assert len(found) == 15
    assert [e.target.index for e in found[::3]] == [2] * 5
    assert {e.target.label for e in found[2::3]} == {"tabby, tabby cat rather than crane"}


def test_no_target_is_refused(model, x):
    with pytest.raises(ParameterError, match="at least one target"):
        explain(model, x, [])
    with pytest.raises(TargetError, match="no classes were given"):
        explain(model, x, joint())


@pytest.mark.parametrize("wanted", [0, "Egyptian cat", "top1"])
@pytest.mark.parametrize("as_keyword", [False, True])
def test_contrast(model, x, logits, wanted, as_keyword):
    found = explain(model, x, wanted, contrast=3) if as_keyword else explain(model, x, contrast(wanted, 3))
    first = logits.argmax(1) if wanted == "top1" else torch.tensor([{0: 0, "Egyptian cat": 2}[wanted]] * 5)
    assert scores(found) == pytest.approx((logits.gather(1, first[:, None])[:, 0] - logits[:, 3]).tolist())
    assert [e.target.index for e in found] == first.tolist()
    assert found[0].target.label == f"{NAMES[first[0]]} rather than crane"
    wanted_map = gradient(model, x, lambda z: z.gather(1, first[:, None])[:, 0] - z[:, 3])
    assert np.allclose(maps(found), wanted_map, rtol=1e-5, atol=1e-9)


def test_joint(model, x, logits):
    found = explain(model, x, joint(0, "Egyptian cat", contrast(4, 3)))
    assert scores(found) == pytest.approx((logits[:, 0] + logits[:, 2] + logits[:, 4] - logits[:, 3]).tolist())
    assert found[0].target.index is None
    assert found[0].target.label == "tabby, tabby cat + Egyptian_cat + 7 rather than crane"


CLASSES = [4, 0, 3, 2, 1]


@pytest.mark.parametrize(
    "target",
    [
        per_image(CLASSES), torch.tensor(CLASSES), np.array(CLASSES), torch.tensor(CLASSES)[:, None],
        torch.tensor(CLASSES, dtype=torch.int32), per_image([4, "tabby", "n4", "egyptian cat", np.int64(1)]),
    ],
    ids=["per_image", "tensor", "array", "column", "int32", "mixed"],
)  # fmt: skip
@pytest.mark.parametrize("batch_size", [1, 2, 5, 8])
def test_each_image_its_own_target_over_several_batches(model, x, logits, target, batch_size):
    found = explain(model, x, target, batch_size=batch_size)
    assert [e.target.index for e in found] == CLASSES
    assert scores(found) == pytest.approx(logits[range(5), CLASSES].tolist())
    for method in ("gradient", "grad_cam", "integrated_gradients", "smooth_grad"):
        mine = sightline.explain(model, x, method, target, batch_size=batch_size, **small(method))
        for i, e in enumerate(mine):
            (alone,) = sightline.explain(model, x[i : i + 1], method, CLASSES[i], **small(method))
            assert np.allclose(e.attribution, alone.attribution, rtol=1e-5, atol=1e-9)


def small(method: str) -> dict[str, int]:
    return {"integrated_gradients": {"steps": 2}, "smooth_grad": {"samples": 2}}.get(method, {})


def test_per_image_parts_may_be_any_target(model, x, logits):
    parts = [contrast(0, 1), "top1", joint(1, 2), lambda z: z[:, 4], unit("features.5", 3)]
    found = explain(model, x, per_image(parts), batch_size=2)
    wanted = [logits[0, 0] - logits[0, 1], logits[1].max(), logits[2, 1] + logits[2, 2], logits[3, 4]]
    assert scores(found[:4]) == pytest.approx([float(w) for w in wanted])
    assert found[4].target.label == "features.5 channel 3"


def test_per_image_inside_a_contrast_is_cut_with_the_batches(model, x, logits):
    found = explain(model, x, contrast(per_image(CLASSES), 0), batch_size=2)
    assert scores(found) == pytest.approx((logits[range(5), CLASSES] - logits[:, 0]).tolist())
    found = explain(model, x, torch.tensor(CLASSES), contrast=joint(per_image(CLASSES), 1), batch_size=2)
    assert scores(found) == pytest.approx((-logits[:, 1]).tolist())


def test_too_few_targets_are_refused(model, x):
    with pytest.raises(TargetError, match="3 targets came for"):
        explain(model, x, per_image([0, 1, 2]))


def test_targets_stay_with_their_images_where_one_cannot_be_read():
    net, _ = make("conv")
    how = Preprocessing(resize=16, crop=16)
    labelled = sightline.load(net, preprocessing=how)
    pictures = [np.full((16, 16, 3), 40 * i, np.uint8) for i in range(5)]
    images = [pictures[0], "/no/such/picture.png", *pictures[2:]]
    failures: list[Any] = []
    found = [
        e
        for _, e in explanations(
            labelled, images, "gradient", per_image(CLASSES), batch_size=3, on_failure=failures.append
        )
    ]
    assert [f.image for f in failures] == ["/no/such/picture.png"]
    assert [e.target.index for e in found] == [CLASSES[i] for i in (0, 2, 3, 4)]


@pytest.mark.parametrize("images", [[0], [1, 2], [4, 0]])
def test_parts_of_targets(images):
    assert part_of(per_image("abcde"), images) == per_image(["abcde"[i] for i in images])
    assert part_of(contrast(per_image("abcde"), 3), images) == Contrast(PerImage(tuple("abcde"[i] for i in images)), 3)
    assert part_of("top1", images) == "top1"
    rows = np.arange(10).reshape(5, 2)
    for given in (rows, torch.tensor(rows), rows.tolist()):
        assert np.array_equal(np.asarray(part_of(similarity(given), images).embedding), rows[images])
        assert np.array_equal(np.asarray(part_of(similarity(given[0]), images).embedding), rows[0])
    masks = np.arange(20).reshape(5, 2, 2)
    for given in (masks, torch.tensor(masks), masks.tolist()):
        assert np.array_equal(np.asarray(part_of(region(0, given), images).mask), masks[images])
        assert np.array_equal(np.asarray(part_of(region(0, given[0]), images).mask), masks[0])


def test_the_layers_of_targets():
    target = joint(contrast(unit("a"), unit("b")), per_image([unit("c"), 3]))
    assert layers_of(target) == ("a", "b", "c")
    assert layers_of("top1") == layers_of(3) == ()


# --- outputs, regions, units, similarities --------------------------------------------------------------------------


@pytest.mark.parametrize("index", [0, 4])
def test_regression_is_the_output_itself(index):
    net, x = make("softmax", torch.float64)
    found = explain(net, x, regression(index))
    with torch.no_grad():
        assert scores(found) == pytest.approx(net(x)[:, index].tolist())
    assert (found[0].target.index, found[0].target.label) == (index, f"output {index}")


@pytest.mark.parametrize("index", [-1, 5])
def test_an_output_that_is_not_there_is_refused(model, x, index):
    with pytest.raises(TargetError, match=rf"output {index}: the model has 5 outputs"):
        explain(model, x, regression(index))


def test_regression_of_a_single_output():
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 1)).double()
    x = torch.randn(2, 3, 2, 2, dtype=torch.float64)
    assert scores(explain(net, x, regression())) == pytest.approx(net(x)[:, 0].tolist())


@pytest.fixture(scope="module")
def dense() -> tuple[nn.Module, Tensor, Tensor]:
    net, x = make("dense", torch.float64, images=5)
    with torch.no_grad():
        return net, x, net(x)["out"]


def test_a_dense_output_is_averaged(dense):
    net, x, out = dense
    assert scores(explain(net, x, 2)) == pytest.approx(out[:, 2].mean((1, 2)).tolist())
    assert [e.target.index for e in explain(net, x, "top1")] == out.mean((2, 3)).argmax(1).tolist()


def test_a_region_of_a_dense_output(dense):
    net, x, out = dense
    mask = np.zeros((16, 16), bool)
    mask[2:5, 7:] = True
    for given in (mask, torch.tensor(mask), mask.tolist(), mask.astype(float) * 3):
        found = explain(net, x, region(2, given))
        assert scores(found) == pytest.approx(out[:, 2, 2:5, 7:].mean((1, 2)).tolist())
    assert (found[0].target.index, found[0].target.label) == (2, "class 2 in the region")
    assert scores(explain(net, x, region(2))) == pytest.approx(out[:, 2].mean((1, 2)).tolist())
    assert not maps(found)[..., 8:, :].any()  # what the region does not see


@pytest.mark.parametrize("batch_size", [2, 5])
def test_regions_of_each_image_are_cut_with_the_batches(dense, batch_size):
    net, x, out = dense
    masks = torch.zeros(5, 16, 16)
    for i in range(5):
        masks[i, i : i + 3] = 1
    found = explain(net, x, region("top1", masks), batch_size=batch_size)
    best = out.mean((2, 3)).argmax(1)
    assert scores(found) == pytest.approx([float(out[i, best[i], i : i + 3].mean()) for i in range(5)])


def test_a_region_given_at_another_size_is_averaged_over_its_pixels(dense):
    net, x, out = dense
    mask = torch.zeros(64, 64)
    mask[8:16, 4:8] = 1
    assert scores(explain(net, x, region(1, mask))) == pytest.approx(out[:, 1, 2:4, 1].mean(1).tolist())


def test_contrasts_of_regions(dense):
    net, x, out = dense
    mask = np.eye(16)
    found = explain(net, x, contrast(region(1, mask), region(2, mask)))
    wanted = ((out[:, 1] - out[:, 2]) * torch.tensor(mask)).sum((1, 2)) / 16
    assert scores(found) == pytest.approx(wanted.tolist())


def test_a_sweep_over_a_region(dense):
    net, x, _ = dense
    masks = torch.rand(5, 16, 16, generator=torch.Generator().manual_seed(0))
    found = sightline.explain(net, x, "integrated_gradients", region(1, masks), steps=40, chunk=7, batch_size=2)
    assert all(e.completeness.gap < 0.05 for e in found)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((16, 16)), "mask is empty"),
        (np.ones(16), "wanted \\(H, W\\) or \\(N, H, W\\)"),
        (np.ones((3, 16, 16)), "wanted \\(H, W\\) or \\(N, H, W\\)"),
        (np.ones((1, 1, 16, 16)), "wanted \\(H, W\\) or \\(N, H, W\\)"),
        (np.stack([np.ones((16, 16))] * 4 + [np.zeros((16, 16))]), "mask is empty"),
    ],
)
def test_masks_that_do_not_fit_are_refused(dense, mask, message):
    net, x, _ = dense
    with pytest.raises(TargetError, match=message):
        explain(net, x, region(0, mask))


def test_regions_are_of_one_class_and_of_dense_outputs(dense, model, x):
    with pytest.raises(TargetError, match=r"needs a dense output .* this model's is \(5, 5\)"):
        explain(model, x, region(0))
    with pytest.raises(TargetError, match="region is of one class"):
        explain(dense[0], dense[1], region(contrast(0, 1)))
    with pytest.raises(TargetError, match="class 9"):
        explain(dense[0], dense[1], region(9))


UNITS = {
    "layer": (unit("features.0"), lambda a: a.mean((1, 2, 3)), "features.0 mean"),
    "channel": (unit("features.0", 3), lambda a: a[:, 3].mean((1, 2)), "features.0 channel 3"),
    "position": (unit("features.0", 3, (4, 7)), lambda a: a[:, 3, 4, 7], "features.0 channel 3 at (4, 7)"),
    "all channels at a position": (
        unit("features.0", None, (4, 7)),
        lambda a: a[:, :, 4, 7].mean(1),
        "features.0 mean at (4, 7)",
    ),
}


@pytest.mark.parametrize("name", UNITS)
def test_units(model, x, name):
    target, score, label = UNITS[name]
    with torch.no_grad():
        wanted = score(model.module.features[0](x))
    found = explain(model, x, target)
    assert scores(found) == pytest.approx(wanted.tolist())
    assert found[0].target.label == label
    sweep = sightline.explain(model, x, "integrated_gradients", target, steps=2, chunk=3)
    assert all(e.completeness.gap < 1e-9 for e in sweep)  # a convolution is linear


def test_a_unit_of_tokens_and_of_features():
    net, x = make("tokens", torch.float64)
    kept: list[Tensor] = []
    handles = [m.register_forward_hook(lambda m, i, o: kept.append(o)) for m in (net.blocks[0], net.head)]
    net(x)
    for handle in handles:
        handle.remove()
    tokens, head = kept
    assert scores(explain(net, x, unit("blocks.0", 5, (2, 3)))) == pytest.approx(tokens[:, 1 + 2 * 8 + 3, 5].tolist())
    assert scores(explain(net, x, unit("head", 3))) == pytest.approx(head[:, 3].tolist())
    assert scores(explain(net, x, unit("head"))) == pytest.approx(head.mean(1).tolist())


def test_a_cam_of_a_unit(model, x):
    found = sightline.explain(model, x, "grad_cam", unit("features.5", 2), layer="features.0", relu=False)
    assert maps(found).any()
    with pytest.raises(RefusedError, match="does not depend on"):
        sightline.explain(model, x, "grad_cam", unit("features.0", 2), layer="features.5")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (unit("features.0", 6), "channel 6: features.0 has 6 channels"),
        (unit("features.0", -1), "channel -1"),
        (unit("features.0", 0, (16, 0)), r"position \(16, 0\): features.0 is a map of \(16, 16\)"),
        (unit("features.0", 0, (-1, 0)), r"position \(-1, 0\)"),
        (unit("features.0", 0, (1,)), r"position \(1,\)"),
        (unit("features.0", None, (1, 2, 3)), r"position \(1, 2, 3\)"),
        (unit("nothing"), "no layer 'nothing'"),
    ],
)
def test_units_that_are_not_there_are_refused(model, x, target, message):
    with pytest.raises(sightline.SightlineError, match=message):
        explain(model, x, target)


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("kind", ["tensor", "array", "list", "float32", "requires_grad"])
def test_similarity(model, x, logits, kind, many):
    embedding = torch.randn((5, 5) if many else (5,), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    given = {
        "tensor": embedding, "array": embedding.numpy(), "list": embedding.tolist(), "float32": embedding.float(),
        "requires_grad": embedding.clone().requires_grad_(),
    }[kind]  # fmt: skip
    found = explain(model, x, similarity(given), batch_size=2)
    wanted = torch.cosine_similarity(logits, embedding.expand(5, 5), dim=1)
    assert scores(found) == pytest.approx(wanted.tolist(), rel=1e-5)
    assert found[0].target.label == "similarity"
    wanted_map = gradient(model, x, lambda z: torch.cosine_similarity(z, embedding.expand(5, 5), dim=1))
    assert np.allclose(maps(found), wanted_map, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("batch_size", [2, 5])
def test_a_sweep_over_similarities_of_each_image(model, x, batch_size):
    embedding = torch.randn((5, 5), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = sightline.explain(model, x, "smooth_grad", similarity(embedding), samples=3, chunk=2, batch_size=batch_size)
    for i, e in enumerate(found):
        (alone,) = sightline.explain(model, x[i : i + 1], "smooth_grad", similarity(embedding[i]), samples=3)
        assert np.allclose(e.attribution, alone.attribution, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("shape", [(4,), (2, 5), (5, 4), (1, 5, 5), ()])
def test_embeddings_that_do_not_fit_are_refused(model, x, shape):
    with pytest.raises(TargetError, match="the embedding has shape"):
        explain(model, x, similarity(torch.ones(shape)))


# --- functions ------------------------------------------------------------------------------------------------------


def margin(z: Tensor) -> Tensor:
    """The best score over the second."""
    best = z.topk(2, dim=1).values
    return best[:, 0] - best[:, 1]


def test_functions(model, x, logits):
    found = explain(model, x, margin)
    assert scores(found) == pytest.approx(margin(logits).tolist())
    assert (found[0].target.index, found[0].target.label) == (None, "margin")
    assert explain(model, x, lambda z: z[:, 0])[0].target.label == "lambda"
    assert np.allclose(maps(found), gradient(model, x, margin), rtol=1e-5, atol=1e-9)
    sweep = sightline.explain(model, x, ["integrated_gradients", "smooth_grad"], margin, steps=2, samples=2, chunk=3)
    assert len(sweep) == 10


class Energy(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return z.logsumexp(1)


def test_modules_are_functions(model, x, logits):
    found = explain(model, x, Energy())
    assert scores(found) == pytest.approx(logits.logsumexp(1).tolist())
    assert found[0].target.label == "Energy"


def test_a_function_that_writes_in_place_spoils_nothing(model, x, logits):
    found = explain(model, x, [lambda z: z.mul_(0)[:, 0] + z.add_(1)[:, 1], 0])
    assert scores(found[1::2]) == pytest.approx(logits[:, 0].tolist())
    assert found[0].predictions[0]["logit"] == pytest.approx(float(logits[0].max()), rel=1e-5)


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda z: z, TargetError, r"returned shape \(3, 5\); wanted one score per image: \(3,\)"),
        (lambda z: z.sum(), TargetError, r"returned shape \(\)"),
        (lambda z: z[0], TargetError, r"returned shape \(5,\)"),
        (lambda z: z[:, :1], TargetError, r"returned shape \(3, 1\)"),
        (lambda z: float(z.detach()[0, 0]), TargetError, "returned a float"),
        (lambda z: None, TargetError, "returned a NoneType"),
        (lambda z: z.detach()[:, 0], RefusedError, "'lambda' does not depend on"),
        (lambda z: z.argmax(1).to(z), RefusedError, "'lambda' does not depend on"),
    ],
)
def test_functions_that_give_no_score_for_each_image_are_refused(model, x, function, error, message):
    with pytest.raises(error, match=message):
        explain(model, x[:3], function)


# --- on the command line --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("top1", ["top1"]),
        ("top1, 7", ["top1", "7"]),
        ("tabby, tabby cat", ["tabby, tabby cat"]),
        ("3,tabby, tabby cat,crane", ["3", "tabby, tabby cat", "crane"]),
        ("TABBY,TABBY_CAT", ["TABBY,TABBY_CAT"]),
        ("tabby,crane", ["tabby", "crane"]),
        ("label:7,index:2", ["label:7", "index:2"]),
        (",, 1 ,", ["1"]),
        ("", []),
    ],
)
def test_a_comma_inside_a_label_does_not_split(text, found):
    assert split_targets(text, LABELS) == found
