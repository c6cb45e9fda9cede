"""One pass answers all, nothing is computed twice, and the model is left exactly as it was found."""

from __future__ import annotations

import itertools
import random
import warnings
import weakref
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import sightline
from nets import BinaryNet, ConvNet, InplaceNet, NoGradTrunkNet, drawn, make
from sightline import recording
from sightline.errors import LayerError, ModelError, ParameterError, RefusedError, SightlineError
from sightline.forward import find_logits, layer_call, run_forward
from sightline.goals import probabilities, resolve
from sightline.graph import find_nodes
from sightline.methods import METHODS
from sightline.methods.gradient import noise_moments
from sightline.methods.registry import Method
from sightline.models import model as model_module
from sightline.recording import Options, Recording, record

TOGETHER = [
    "gradient", "input_x_gradient", "guided_backprop", "deconvnet", "guided_grad_cam", "grad_cam", "grad_cam_plus_plus",
    "xgrad_cam", "layer_cam", "hires_cam", "elementwise_grad_cam", "eigen_cam", "eigen_grad_cam",
]  # fmt: skip
CAMS = ["grad_cam", "grad_cam_plus_plus", "xgrad_cam", "layer_cam", "hires_cam"]


class Count:
    """How often a module was called and a gradient asked for."""

    def __init__(self, net: nn.Module, patch: pytest.MonkeyPatch) -> None:
        self.forwards = self.backwards = self.rows = 0
        net.register_forward_pre_hook(self._forward)
        grad = torch.autograd.grad

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.backwards += 1
            return grad(*args, **kwargs)

        patch.setattr(torch.autograd, "grad", counted)

    def _forward(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.forwards += 1
        self.rows += len(inputs[0])


@pytest.fixture
def counted(monkeypatch) -> Callable[..., tuple[sightline.Model, Tensor, Count]]:
    def make_counted(name: str) -> tuple[sightline.Model, Tensor, Count]:
        net, x = make(name)
        model = sightline.load(net)
        model.layers(x)  # the trace is made once for each input shape
        return model, x, Count(net, monkeypatch)

    return make_counted


def maps(found: list[sightline.Explanation]) -> Tensor:
    return torch.stack([torch.tensor(e.attribution) for e in found])


# --- passes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["conv", "residual"])
def test_thirteen_methods_cost_one_forward_and_one_backward_for_each_rule(name, counted):
    model, x, count = counted(name)
    found = sightline.explain(model, x, TOGETHER, 1)
    assert len(found) == 13 * len(x)
    assert (count.forwards, count.backwards) == (1, 3)


def test_what_is_computed_together_is_what_is_computed_alone():
    net, x = make("conv")
    together = sightline.explain(net, x, TOGETHER, 1)
    for method in TOGETHER:
        alone = sightline.explain(net, x, method, 1)
        torch.testing.assert_close(maps([e for e in together if e.method == method]), maps(alone), rtol=1e-5, atol=1e-8)


def test_five_classes_and_five_cams_cost_one_forward_and_five_backwards(counted):
    model, x, count = counted("conv")
    found = sightline.explain(model, x, CAMS, [0, 1, 2, 3, 4])
    assert len(found) == 25 * len(x)
    assert (count.forwards, count.backwards) == (1, 5)


def test_three_layers_cost_one_forward_and_one_backward(counted):
    model, x, count = counted("conv")
    sightline.explain(model, x, CAMS, 1, layer=["features.0", "features.2", "features.5"])
    assert (count.forwards, count.backwards) == (1, 1)


def test_activations_and_eigen_cam_need_no_backward(counted):
    model, x, count = counted("conv")
    sightline.explain(model, x, ["activations", "eigen_cam"], [0, 1])
    assert (count.forwards, count.backwards) == (1, 0)


def test_recording_counts_its_passes(counted):
    model, x, count = counted("conv")
    with record(model, x, Options(chunk=2), 1) as rec:
        rec.gradient()
        rec.gradient()
        rec.gradient(rule="guided")
        list(rec.gradients_at([x] * 3))
        list(rec.scores_at([x] * 3))
        assert rec.shared.passes == [count.forwards, count.backwards]
    assert (count.forwards, count.backwards) == (5, 4)


def test_smooth_square_and_var_grad_share_one_sweep(counted):
    model, x, count = counted("conv")
    sightline.explain(model, x, ["smooth_grad", "square_grad", "var_grad"], 1, samples=4, chunk=2)
    assert (count.forwards, count.rows) == (1 + 2, len(x) * (1 + 4))


def test_sweeps_of_other_parameters_classes_or_methods_are_not_shared(counted):
    model, x, count = counted("conv")
    sightline.explain(model, x, ["smooth_grad", "var_grad"], [1, 2], samples=2, **{"var_grad.noise": 0.3})
    assert count.rows == len(x) * (1 + 2 * 2 * 2)


READS: dict[str, Callable[[Recording], Tensor]] = {
    "memo": lambda view: view.memo(noise_moments, samples=1, noise=0.0, scale="absolute")[0].float(),
    "gradient": lambda view: view.gradient(),
}


@pytest.mark.parametrize("read", READS)
def test_a_target_that_is_gone_leaves_nothing_under_its_id(read):
    # A goal's id is a key; one that was freed could be given to the next.
    net, x = make("conv")
    model = sightline.load(net)
    expected = [maps(sightline.explain(model, x, "gradient", index)) for index in range(5)]
    with record(model, x, Options()) as rec:
        for index in [*range(5)] * 4:
            view = rec.for_target(resolve(index, rec.shared.forward, model.labels, "logit")[0])
            torch.testing.assert_close(READS[read](view), expected[index])
            del view


# --- graphs and memory ----------------------------------------------------------------------------------------------


def upstream_of(net: nn.Module, x: Tensor, **options: Any) -> tuple[set[str], bool]:
    """The nodes of a recording of layer features.2, and whether the output of the first layer is still held."""
    refs: list[weakref.ref[Tensor]] = []
    handle = net.features[0].register_forward_hook(lambda m, i, o: refs.append(weakref.ref(o)))
    with record(sightline.load(net), x, Options(layers=("features.2",), **options), 1) as rec:
        handle.remove()
        nodes = {n.name() for n in find_nodes(rec.shared.forward.logits.grad_fn)}
        return nodes, refs[0]() is not None


def test_a_recording_of_a_layer_builds_no_graph_below_it():
    net, x = make("conv")
    nodes, held = upstream_of(net, x, from_input=False)
    assert "NativeBatchNormBackward0" not in nodes
    assert "ConvolutionBackward0" in nodes  # the one above
    assert not held
    nodes, held = upstream_of(net, x, from_input=True)
    assert "NativeBatchNormBackward0" in nodes
    assert held


def test_a_layer_read_alone_is_the_layer_read_with_the_input():
    net, x = make("conv")
    model = sightline.load(net)
    read = []
    for from_input in (False, True):
        options = Options(layers=("features.0", "features.5"), from_input=from_input)
        with record(model, x, options, 1) as rec:
            read.append([f(layer) for layer in options.layers for f in (rec.activation, rec.gradient)])
    assert all(torch.equal(a, b) for a, b in zip(*read, strict=True))


def test_closing_frees_the_graph():
    net, x = make("conv")
    with record(sightline.load(net), x, Options(layers=("features.5",)), 1) as rec:
        logits = weakref.ref(rec.shared.forward.logits)
        rec.gradient()
    assert logits() is None
    assert not rec.shared.forward.taps
    for read in (rec.gradient, lambda: rec.activation("features.5")):
        with pytest.raises(SightlineError):
            read()


def counting(points: Iterator[Tensor], drawn_points: list[int]) -> Iterator[Tensor]:
    for point in points:
        drawn_points[0] += 1
        yield point


@pytest.mark.parametrize("read", ["gradients_at", "scores_at"])
def test_sweeps_take_endless_points_lazily(read):
    net, x = make("conv")
    taken = [0]
    with record(sightline.load(net), x, Options(chunk=3), 1) as rec:
        endless = counting(itertools.repeat(x), taken)
        sweep = getattr(rec, read)(endless)
        assert taken == [0]
        found = list(itertools.islice(sweep, 7))
    assert len(found) == 7
    assert taken == [9]


def test_sweeps_free_each_chunk_before_the_next(monkeypatch):
    net, x = make("conv")
    alive: list[int] = []
    refs: list[weakref.ref[Tensor]] = []
    run = recording.run_forward

    def watched(*args: Any, **kwargs: Any) -> Any:
        alive.append(sum(ref() is not None for ref in refs))
        forward = run(*args, **kwargs)
        refs.append(weakref.ref(forward.logits))
        return forward

    with record(sightline.load(net), x, Options(chunk=1), 1) as rec:
        monkeypatch.setattr(recording, "run_forward", watched)
        for _ in rec.gradients_at([x] * 4):
            pass
    assert alive == [0, 0, 0, 0]


def test_a_sweep_that_is_left_early_leaves_nothing_behind():
    net, x = make("conv")
    refs = []
    with record(sightline.load(net), x, Options(chunk=1), 1) as rec:
        for child, _ in rec.children([x] * 3):
            refs.append(weakref.ref(child.shared.forward.logits))
            break
        del child
        assert refs[0]() is None
        assert rec.gradient().any()


def test_ticks_come_after_each_chunk():
    net, x = make("conv")
    ticks: list[int] = []
    with record(sightline.load(net), x, Options(chunk=2, tick=ticks.append), 1) as rec:
        assert len(list(rec.scores_at([x] * 5))) == 5
    assert ticks == [2, 2, 1]


SWEPT = [
    "smooth_grad",
    "var_grad",
    "integrated_gradients",
    "expected_gradients",
    "smooth_grad_cam_plus_plus",
    "grad_cam",
]


@pytest.mark.parametrize("chunk", [1, 2, 5])
def test_chunk_size_does_not_matter(chunk):
    net, x = make("conv", torch.float64)
    how = {"samples": 5, "steps": 5, "grad_cam.smooth_samples": 5}
    expected, found = (sightline.explain(net, x, SWEPT, 1, chunk=c, **how) for c in (None, chunk))
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_allclose(a.attribution, b.attribution, rtol=1e-5, atol=1e-9)
        assert a.completeness is None or a.completeness.total == pytest.approx(b.completeness.total)


def test_chunks_fit_the_budget(monkeypatch):
    net, x = make("conv")
    with record(sightline.load(net), x, Options(), 1) as rec:
        each = rec.shared.forward.bytes_per_sample * len(x) * 2
        monkeypatch.setattr(recording, "_CHUNK_BYTES", 5 * each)
        assert rec._chunk() == 5
        monkeypatch.setattr(recording, "_CHUNK_BYTES", each // 2)
        assert rec._chunk() == 1


def test_points_of_a_sweep_come_in_their_order_and_rows_know_their_image():
    net, x = make("conv", torch.float64)
    model = sightline.load(net)
    target = sightline.targets.per_image([0, 3, 4])
    with record(model, x, Options(chunk=2), target) as rec:
        points = [x * scale for scale in (1.0, 0.5, 2.0)]
        for point, score, gradient in zip(points, rec.scores_at(points), rec.gradients_at(points), strict=True):
            with record(model, point, Options(), target) as alone:
                torch.testing.assert_close(score, alone.scores)
                torch.testing.assert_close(gradient, alone.gradient())


# --- layers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("from_input", [False, True])
def test_a_layer_before_an_in_place_relu_is_read_before_it(from_input):
    net, x = make("inplace")
    with torch.no_grad():
        before = net.conv(x)
    layers = ("conv", "relu", "relu@2", "conv2")
    with record(sightline.load(net), x, Options(layers=layers, from_input=from_input), 1) as rec:
        assert torch.equal(rec.activation("conv"), before)
        assert (rec.activation("conv") < 0).any()
        assert torch.equal(rec.activation("relu"), before.relu())
        torch.testing.assert_close(rec.activation("relu@2"), rec.activation("conv2").relu())
        assert not torch.equal(rec.activation("relu"), rec.activation("relu@2"))


@pytest.mark.parametrize("layer", ["conv", "relu", "conv2", "relu@2"])
def test_gradients_at_layers_before_in_place_relus_are_right(layer):
    net, x = make("inplace", torch.float64)
    steps: dict[str, Tensor] = {"conv": net.conv(x).detach().requires_grad_()}
    steps["relu"] = F.relu(steps["conv"])
    steps["conv2"] = net.conv2(steps["relu"])
    steps["relu@2"] = F.relu(steps["conv2"])
    expected = torch.autograd.grad(net.head(steps["relu@2"].mean((2, 3)))[:, 1].sum(), steps[layer])[0]
    with record(sightline.load(net), x, Options(layers=(layer,)), 1) as rec:
        torch.testing.assert_close(rec.gradient(layer), expected)


def test_the_outputs_are_the_same_with_and_without_taps():
    net, x = make("inplace")
    with torch.no_grad():
        expected = net(x)
    for layers in ((), ("conv",), ("relu", "relu@2")):
        assert torch.equal(run_forward(net, x, layers=layers).output, expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("relu", ("relu", 1)),
        ("a.relu@2", ("a.relu", 2)),
        ("relu@", ("relu@", 1)),
        ("a@b", ("a@b", 1)),
        ("a@1", ("a", 1)),
    ],
)
def test_layer_call(text, expected):
    assert layer_call(text) == expected


class ListNet(nn.Module):
    """Has a layer that returns a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = Pair()
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pair(x)[0].mean((2, 3)))


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.conv(x), x  # two maps: which is meant?


def test_a_layer_that_gives_several_maps_is_refused_and_inside_it_is_not():
    net = drawn(ListNet)
    with pytest.raises(LayerError, match=r"'pair' returns a tuple.*layer inside it"):
        sightline.explain(net, torch.randn(1, 3, 8, 8), "grad_cam", 0, layer="pair")
    assert sightline.explain(net, torch.randn(1, 3, 8, 8), "grad_cam", 0)[0].layer == "pair.conv"


# --- logits behind a head -------------------------------------------------------------------------------------------


class Headed(nn.Module):
    """The conv net with something after it."""

    def __init__(self, end: Callable[[Tensor], Any], classes: int = 5) -> None:
        super().__init__()
        self.body, self.end = drawn(lambda: ConvNet(classes=classes)), end

    def forward(self, x: Tensor) -> Any:
        return self.end(self.body(x))


HEADS: dict[str, tuple[Callable[[Tensor], Any], str, int]] = {
    "nn.Softmax": (nn.Softmax(1), "softmax", 5),
    "F.softmax": (lambda z: F.softmax(z, dim=1), "softmax", 5),
    "F.softmax(input=)": (lambda z: F.softmax(input=z, dim=1), "softmax", 5),
    "torch.softmax": (lambda z: torch.softmax(z, 1), "softmax", 5),
    "Tensor.softmax": (lambda z: z.softmax(-1), "softmax", 5),
    "torch.special.softmax": (lambda z: torch.special.softmax(z, 1), "softmax", 5),
    "nn.LogSoftmax": (nn.LogSoftmax(1), "log_softmax", 5),
    "torch.special.log_softmax": (lambda z: torch.special.log_softmax(z, 1), "log_softmax", 5),
    "nn.Sigmoid, labels": (nn.Sigmoid(), "sigmoid", 5),
    "sigmoid_": (lambda z: z.sigmoid_(), "sigmoid", 5),
    "logsigmoid": (F.logsigmoid, "log_sigmoid", 5),
    "binary": (torch.sigmoid, "sigmoid", 1),
    "binary, squeezed": (lambda z: z.sigmoid().squeeze(1), "sigmoid", 1),
    "binary, sigmoid of squeezed": (lambda z: z.squeeze(1).sigmoid(), "sigmoid", 1),
    "binary, expit": (lambda z: torch.special.expit(z)[:, 0], "sigmoid", 1),
    "view": (lambda z: z.softmax(1).view(len(z), -1, 1, 1), "softmax", 5),
    "dropout after": (lambda z: F.dropout(z.softmax(1), training=False), "softmax", 5),
    "in a mapping": (lambda z: {"logits": z.softmax(1)}, "softmax", 5),
    "two heads": (lambda z: (z.softmax(1), (z * 2).softmax(1)), "softmax", 5),
    "none": (lambda z: z, "none", 5),
    "a softmax that is no head": (lambda z: z * z.softmax(1), "none", 5),
    "scaled after": (lambda z: z.softmax(1) * 2, "none", 5),
}


@pytest.mark.parametrize("head", HEADS)
def test_heads_are_found_and_their_logits_explained(head):
    end, kind, classes = HEADS[head]
    net, x = Headed(end, classes), make("conv")[1]
    forward = run_forward(net, x)
    assert forward.head == kind
    with torch.no_grad():
        logits = net.body(x)
    given = logits if kind != "none" else find_logits(net(x), 3)
    assert torch.equal(forward.logits, given)
    assert not forward.hidden_head
    if kind == "none":
        return
    expected = sightline.explain(net.body, x, "gradient", 0)
    found = sightline.explain(net, x, "gradient", 0)
    assert torch.equal(maps(found), maps(expected))
    assert [e.score for e in found] == [e.score for e in expected]


class DenseHead(nn.Module):
    """A dense net whose softmax is over the last of (N, H, W, K), and whose output shows that as (N, K, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = drawn(lambda: nn.Conv2d(3, 4, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).permute(0, 2, 3, 1).softmax(-1).permute(0, 3, 1, 2)


@pytest.mark.parametrize("contiguous", [False, True])
def test_a_permuted_head_does_not_scramble_the_logits(contiguous):
    net, x = DenseHead(), torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    x = x if contiguous else x.to(memory_format=torch.channels_last)
    forward = run_forward(net, x)
    assert forward.head == "softmax"
    torch.testing.assert_close(forward.logits, net.conv(x))
    assert forward.logits.requires_grad


def test_a_head_that_is_also_a_tapped_layer_is_still_found():
    net, x = make("softmax")
    forward = run_forward(net, x, layers=("softmax", "body.head"))
    assert forward.head == "softmax"
    assert torch.equal(forward.logits, net.body(x))


@pytest.mark.parametrize("target", [0, 1, "top1"])
def test_the_two_sides_of_a_binary_head(target):
    net, x = make("binary")
    found = sightline.explain(net, x, "gradient", target)
    with torch.no_grad():
        z = net.body(x).squeeze(1)
    side = (z > 0).long() if target == "top1" else torch.full((3,), target)
    assert [e.target.index for e in found] == side.tolist()
    torch.testing.assert_close(torch.tensor([e.score for e in found]), torch.where(side == 1, z, -z))
    for e, p in zip(found, torch.sigmoid(z).tolist(), strict=True):
        assert {q["index"]: pytest.approx(q["probability"]) for q in e.predictions} == {1: p, 0: 1 - p}


@pytest.mark.parametrize("output", ["probability", "log_probability"])
@pytest.mark.parametrize("name", ["conv", "softmax", "binary"])
def test_other_outputs_are_explained_as_asked(name, output):
    net, x = make(name, torch.float64)
    leaf = x.clone().requires_grad_()
    scores = net(leaf)
    p = scores.softmax(1)[:, 1] if name == "conv" else scores if name == "binary" else scores[:, 1]
    p = p.log() if output == "log_probability" else p
    (expected,) = torch.autograd.grad(p.sum(), leaf)
    found = sightline.explain(net, x, "gradient", 1, output=output)
    torch.testing.assert_close(maps(found), expected.float())
    assert [e.score for e in found] == pytest.approx(p.tolist())


@pytest.mark.parametrize("labels", [3, 5])
def test_sigmoid_labels_are_each_on_their_own(labels):
    net, x = Headed(nn.Sigmoid(), labels).double(), make("conv", torch.float64)[1]
    forward = run_forward(net, x)
    torch.testing.assert_close(probabilities(forward).double(), net(x), rtol=1e-5, atol=1e-6)
    found = sightline.explain(net, x, "gradient", 2, output="probability")
    assert [e.score for e in found] == pytest.approx(net(x)[:, 2].tolist())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("output", ["logit", "probability", "log_probability"])
def test_a_head_inside_torchscript_is_hidden_and_its_probabilities_are_taken_as_such(output):
    net, x = make("softmax")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hidden = torch.jit.trace(net, x)
    forward = run_forward(hidden, x)
    assert forward.hidden_head
    torch.testing.assert_close(probabilities(forward), net(x))
    score = sightline.explain(hidden, x, "gradient", 2, output=output)[0].score
    p = float(net(x)[0, 2].detach())
    assert score == pytest.approx(np.log(p) if output == "log_probability" else p)


PARTS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "the yes of two": (lambda z: z[:, :2].softmax(1)[:, 1], lambda z: z[:, :2].softmax(1)[:, 1:]),
    "some of softmax": (lambda z: z.softmax(1)[:, :3], lambda z: z.softmax(1)[:, :3]),
    "some of sigmoid": (lambda z: z.sigmoid()[:, 1:4], lambda z: z.sigmoid()[:, 1:4]),
}


@pytest.mark.parametrize("output", ["logit", "probability", "log_probability"])
@pytest.mark.parametrize("part", PARTS)
def test_a_part_of_a_heads_probabilities_is_taken_as_such(part, output):
    show, wanted = PARTS[part]
    net, x = Headed(show), make("conv")[1]
    with torch.no_grad():
        p = wanted(net.body(x))
    forward = run_forward(net, x)
    assert forward.hidden_head
    torch.testing.assert_close(probabilities(forward), p)
    found = sightline.explain(net, x, "gradient", "top1", output=output)
    both = torch.cat((1 - p, p), 1) if p.shape[1] == 1 else p
    best = both.max(1).values
    assert [e.score for e in found] == pytest.approx(
        (best.log() if output == "log_probability" else best).tolist(), rel=1e-4
    )
    assert [e.predictions[0]["probability"] for e in found] == pytest.approx(best.tolist(), rel=1e-5)


@pytest.mark.parametrize("output", ["logits", "", None])
def test_an_unknown_output_is_refused(output):
    net, x = make("conv")
    with pytest.raises(ParameterError, match="logit, probability, log_probability"):
        sightline.explain(net, x, "gradient", output=output)


Z = torch.zeros(2, 4)


@pytest.mark.parametrize(
    "output",
    [
        Z, (Z, None), [Z], {"logits": Z, "loss": None}, {"out": Z, "aux": None}, {"output": Z}, {"a": Z},
        SimpleNamespace(logits=Z), {"logits": (Z,)},
    ],
)  # fmt: skip
def test_scores_are_found_in_what_models_return(output):
    assert find_logits(output, 2) is Z


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (None, "NoneType"), ((), "tuple"), ({}, "dict"), ("text", "str"), (SimpleNamespace(), "SimpleNamespace"),
        (torch.zeros(()), "for 2 inputs"), (torch.zeros(3, 4), r"\(3, 4\) for 2 inputs"), (Z.long(), "int64"),
    ],
)  # fmt: skip
def test_what_holds_no_scores_is_refused(output, message):
    with pytest.raises(ModelError, match=message):
        find_logits(output, 2)


# --- NaN ------------------------------------------------------------------------------------------------------------


def test_weights_that_hold_nan_are_named():
    net, x = make("conv")
    net.features[0].weight.data[0, 0, 0, 0] = float("nan")
    for check in (True, False):
        with pytest.raises(ModelError, match=r"features\.0\.weight"):
            sightline.explain(net, x, "gradient", check=check)


def test_an_output_that_overflows_is_refused_though_the_weights_are_finite():
    net, x = make("conv")
    with pytest.raises(ModelError, match="1 of 1 images; its weights are finite"):
        sightline.explain(net, x.clamp(-1, 1) * 3e38, "gradient")


# --- the model is left as it was found ------------------------------------------------------------------------------


class Fussy(nn.Module):
    """Some parts train, some weights are frozen, some hooks are the user's, and on demand it fails."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.calls, self.fail_at, self.error = drawn(ConvNet), 0, -1, ZeroDivisionError
        self.net.train()
        self.net.features[1].eval()
        self.net.features[0].weight.requires_grad_(False)
        self.net.head.register_forward_hook(lambda m, i, o: None)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == self.fail_at:
            raise self.error("the user's own")
        return self.net(x)


HOOKS = (
    "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_forward_hooks_with_kwargs",
    "_state_dict_hooks",
)  # fmt: skip


def snapshot(net: nn.Module) -> dict[str, Any]:
    return {
        "state": {k: v.clone() for k, v in net.state_dict().items()},
        "versions": {k: v._version for k, v in net.state_dict(keep_vars=True).items()},
        "objects": {k: id(v) for k, v in net.state_dict(keep_vars=True).items()},
        "training": {n: m.training for n, m in net.named_modules()},
        "learning": {n: p.requires_grad for n, p in net.named_parameters()},
        "gradients": {n: p.grad for n, p in net.named_parameters()},
        "hooks": {(n, h): list(getattr(m, h)) for n, m in net.named_modules() for h in HOOKS},
        "attributes": {n: sorted(vars(m)) for n, m in net.named_modules()},
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state()[1].tolist(),
        "python": random.getstate(),
        "grad": torch.is_grad_enabled(),
        "threads": torch.get_num_threads(),
    }


def check_same(before: dict[str, Any], after: dict[str, Any]) -> None:
    for key in before:
        if key == "state":
            assert before[key].keys() == after[key].keys()
            assert all(torch.equal(before[key][k], after[key][k]) for k in before[key])
        elif key == "torch":
            assert torch.equal(before[key], after[key])
        else:
            assert before[key] == after[key], key


ALL_KINDS = [*TOGETHER, "smooth_grad", "integrated_gradients", "expected_gradients", "smooth_grad_cam_plus_plus"]


@pytest.mark.parametrize("precision", ["model", "float64", "bfloat16"])
def test_the_model_is_left_as_it_was(precision):
    net, x = Fussy(), make("conv")[1]
    before, given = snapshot(net), x.clone()
    sightline.explain(net, x, ALL_KINDS, "top2", samples=2, steps=2, precision=precision)
    check_same(before, snapshot(net))
    assert torch.equal(given, x)
    assert not x.requires_grad


@pytest.mark.parametrize("call", [1, 2, 3])
def test_the_model_is_left_as_it_was_when_its_own_code_fails(call):
    # Call 1 is the trace of the layers, 2 the recording, 3 the first chunk of a sweep.
    net, x = Fussy(), make("conv")[1]
    net.fail_at = call
    before = snapshot(net)
    with pytest.raises(ZeroDivisionError, match="the user's own"):
        sightline.explain(net, x, ["grad_cam", "smooth_grad"], 1, samples=2)
    assert net.calls == call
    check_same(before, snapshot(net))


def broken(rec: Recording) -> Tensor:
    """Read something, then fail."""
    rec.gradient("input", "guided")
    next(rec.gradients_at([rec.x] * 3))
    raise ZeroDivisionError("the method's own")


def fails(z: Tensor) -> Tensor:
    raise ZeroDivisionError("the target's own")


@pytest.mark.parametrize("error", [RuntimeError, ValueError, IndexError, KeyError])
def test_what_the_models_own_code_says_is_told_in_one_line(error):
    net, x = Fussy(), make("conv")[1]
    net.fail_at, net.error = 1, error
    before = snapshot(net)
    with pytest.raises(ModelError, match=rf"own forward pass fails .*{error.__name__}.*the user's own"):
        sightline.explain(net, x[:1], "gradient", 1)
    check_same(before, snapshot(net))


@pytest.mark.parametrize("where", ["method", "target", "refusal"])
def test_the_model_is_left_as_it_was_when_something_else_fails(where, monkeypatch):
    net, x = Fussy(), make("conv")[1]
    smooth = METHODS["smooth_grad"]
    mine = Method("broken", broken, "gradient", "nobody", ("input",), "input", "grey", smooth.parameters, frozenset())
    monkeypatch.setitem(METHODS, "broken", mine)
    before = snapshot(net)
    method, target = {"method": ("broken", 1), "target": ("gradient", fails), "refusal": ("gradient", constant)}[where]
    with pytest.raises(RefusedError if where == "refusal" else ZeroDivisionError):
        sightline.explain(net, x, method, target)
    check_same(before, snapshot(net))


def constant(z: Tensor) -> Tensor:
    return torch.ones(len(z))


def test_training_mode_makes_no_difference():
    net, x = make("conv")
    expected = sightline.explain(net, x, ["gradient", "grad_cam", "smooth_grad"], 1, samples=2)
    found = sightline.explain(net.train(), x, ["gradient", "grad_cam", "smooth_grad"], 1, samples=2)
    assert all(np.array_equal(a.attribution, b.attribution) for a, b in zip(expected, found, strict=True))


@pytest.mark.parametrize("learning", [False, True])
def test_gradients_that_the_user_has_gathered_stay(learning):
    net, x = make("conv")
    net(x).sum().backward()
    gathered = {n: p.grad.clone() for n, p in net.named_parameters()}
    net.requires_grad_(learning)
    sightline.explain(net, x, ["gradient", "grad_cam", "guided_backprop"], 1)
    assert all(torch.equal(p.grad, gathered[n]) for n, p in net.named_parameters())


def test_weights_made_in_inference_mode_are_refused_and_stay():
    with torch.inference_mode():
        net = drawn(ConvNet)
    before = snapshot_of_flags(net)
    with pytest.raises(ModelError, match="Inference tensors cannot be saved for backward"):
        sightline.explain(net, torch.randn(1, 3, 16, 16), "gradient", 1)
    assert snapshot_of_flags(net) == before


def snapshot_of_flags(net: nn.Module) -> dict[str, tuple[bool, bool]]:
    return {n: (p.requires_grad, p.is_inference()) for n, p in net.named_parameters()}


def test_weights_that_are_computed_when_they_are_read_stay():
    # Spectral norm takes a step whenever its weight is read in training mode.
    net, x = make("conv")
    nn.utils.parametrizations.spectral_norm(net.head)
    before = snapshot(net.train())
    found = sightline.explain(net, x, ["cam", *ALL_KINDS], 1, samples=2, steps=2)
    assert len(found) == 18 * len(x)
    check_same(before, snapshot(net))


def test_weights_are_hashed_once_for_each_load(monkeypatch):
    net, x = make("conv")
    made: list[Any] = []
    sha256 = model_module.hashlib.sha256
    monkeypatch.setattr(model_module.hashlib, "sha256", lambda *a, **k: made.append(1) or sha256(*a, **k))
    model = sightline.load(net)
    found = [sightline.explain(model, x, "gradient", 1, precision=p)[0] for p in ("model", "model", "float64")]
    assert len(made) == 1
    assert len({e.provenance["weights_hash"] for e in found}) == 1
    sightline.load(net).weights_hash  # noqa: B018
    assert len(made) == 2


# --- the caller's modes ---------------------------------------------------------------------------------------------


MODES = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
}


@pytest.mark.parametrize("mode", MODES)
def test_the_callers_mode_changes_nothing(mode):
    net, x = make("conv")
    methods = ["gradient", "guided_backprop", "grad_cam", "smooth_grad", "integrated_gradients"]
    expected = sightline.explain(net, x, methods, 1, samples=2, steps=2)
    with MODES[mode]():
        found = sightline.explain(net, x.clone(), methods, 1, samples=2, steps=2)  # its layers are traced here too
    assert all(np.array_equal(a.attribution, b.attribution) for a, b in zip(expected, found, strict=True))


def test_a_trunk_without_gradient_refuses_the_input_and_gives_its_later_layers():
    net, x = drawn(NoGradTrunkNet), make("conv")[1]
    with pytest.raises(RefusedError, match="do not depend on"):
        sightline.explain(net, x, "gradient", 1)
    alone = sightline.explain(net, x, "grad_cam", 1, layer="conv")
    with torch.no_grad():
        trunk = net.trunk(x).relu()
    expected = sightline.explain(
        nn.Sequential(net.conv, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), net.head),
        trunk,
        "grad_cam",
        1,
        layer="0",
    )
    assert torch.equal(maps(alone), maps(expected))
    with record(sightline.load(net), x, Options(layers=("trunk", "conv")), 1) as rec:  # the input is asked for as well
        assert rec.gradient("conv").any()
        for nowhere in ("trunk", "input"):
            with pytest.raises(RefusedError, match=f"does not depend on {nowhere}"):
                rec.gradient(nowhere)


def test_a_trunk_in_inference_mode_gives_its_later_layers():
    net, x = drawn(lambda: NoGradTrunkNet(torch.inference_mode)), make("conv")[1]
    expected = sightline.explain(drawn(NoGradTrunkNet), x, "grad_cam", 1, layer="conv")
    assert torch.equal(maps(sightline.explain(net, x, "grad_cam", 1, layer="conv")), maps(expected))
    for method in ("gradient", "grad_cam"):  # there is no default layer either
        with pytest.raises(SightlineError, match=r"do not depend on|no layer with positions"):
            sightline.explain(net, x, method, 1)


def test_a_leaf_that_requires_gradient_is_taken_and_left():
    net, x = make("conv")
    leaf = x.clone().requires_grad_()
    assert torch.equal(
        maps(sightline.explain(net, leaf, "gradient", 1)), maps(sightline.explain(net, x, "gradient", 1))
    )
    assert leaf.grad is None


# --- precision ------------------------------------------------------------------------------------------------------


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("method", ["gradient", "guided_backprop", "grad_cam", "smooth_grad"])
def test_half_precision_is_close_and_comes_as_float32(precision, method):
    net, x = make("conv")
    how = {"samples": 3} if method == "smooth_grad" else {}
    full, half = (sightline.explain(net, x, method, 1, precision=p, **how)[0] for p in ("float32", precision))
    assert half.attribution.dtype == np.float32
    assert half.precision == precision
    assert not np.array_equal(full.attribution, half.attribution)
    assert cosine(full.attribution, half.attribution) > 0.98
    assert {p.dtype for p in net.parameters()} == {torch.float32}


@pytest.mark.parametrize("name", ["conv", "tokens", "signal"])
def test_float64_is_the_net_in_float64(name):
    net, x = make(name)
    found = sightline.explain(net, x, ["gradient", "grad_cam"], 1, precision="float64")
    expected = sightline.explain(make(name, torch.float64)[0], x.double(), ["gradient", "grad_cam"], 1)
    for a, b in zip(found, expected, strict=True):
        assert np.array_equal(a.attribution, b.attribution)
        assert a.precision == b.precision == "float64"
    assert {p.dtype for p in net.parameters()} == {torch.float32}


def test_the_copy_in_another_precision_is_made_once():
    net, _ = make("conv")
    model = sightline.load(net)
    assert model.in_precision("float64") is model.in_precision("float64")
    assert model.in_precision("float32") is model
    assert model.in_precision("bfloat16") is model


@pytest.mark.parametrize("build", [ConvNet, InplaceNet, BinaryNet])
def test_a_module_in_bfloat16_gives_float32_maps(build):
    net = drawn(build).to(torch.bfloat16)
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    found = sightline.explain(net, x, ["gradient", "grad_cam"], 1)
    expected = sightline.explain(drawn(build), x, ["gradient", "grad_cam"], 1)
    for a, b in zip(found, expected, strict=True):
        assert a.attribution.dtype == np.float32
        assert cosine(a.attribution, b.attribution) > 0.97
        assert a.precision == "bfloat16"


@pytest.mark.parametrize("precision", ["half", 32, None])
def test_an_unknown_precision_is_refused(precision):
    net, x = make("conv")
    with pytest.raises(ParameterError, match="float64, float32, bfloat16, float16"):
        sightline.explain(net, x, "gradient", precision=precision)


@pytest.mark.parametrize("how", [torch.contiguous_format, torch.channels_last])
def test_a_batch_norm_before_tokens_gives_one_image_its_true_gradient(how):
    """For one contiguous image torch 2.13 reads the gradient in the wrong order there; two images it reads rightly."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.BatchNorm2d(8), nn.Flatten(2), Turned(), nn.Linear(8, 4), Summed()).eval()
    x = torch.randn(2, 8, 6, 6)
    both = [e.attribution for e in sightline.explain(net, x, "gradient", 1)]
    for image, wanted in zip(x, both, strict=True):
        one = image[None].contiguous(memory_format=how)
        assert np.allclose(sightline.explain(net, one, "gradient", 1)[0].attribution, wanted, atol=1e-6)


class Turned(nn.Module):
    def forward(self, x):
        return x.transpose(1, 2)


class Summed(nn.Module):
    def forward(self, x):
        return (x * torch.arange(36.0).reshape(1, 36, 1)).sum(1)
