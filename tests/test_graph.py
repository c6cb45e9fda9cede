"""Backward rules on autograd nodes, against a forward pass in which every ReLU is a custom function."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import sightline
from nets import (
    CheckpointNet,
    ConvNet,
    CustomNet,
    FirstReluNet,
    FunctionalNet,
    GateNet,
    InplaceNet,
    ResidualNet,
    SliceReluNet,
    SmoothNet,
    calibrated,
    drawn,
    make,
)
from sightline.errors import RefusedError
from sightline.graph import RECTIFIERS, RULES, SMOOTH_ACTIVATIONS, applied, find_nodes
from sightline.recording import Options, record

RULE_OF = {"guided_backprop": "guided", "deconvnet": "deconv"}

# name: (input size, coverage of the rules, activations left alone)
ZOO = {
    "resnet18": (64, 17, {}),
    "densenet121": (64, 121, {}),
    "googlenet": (64, 57, {}),
    "inception_v3": (96, 94, {}),
    "mobilenet_v2": (64, 35, {}),
    "mobilenet_v3_small": (64, 14, {"HardswishBackward0": 19}),
    "mobilenet_v3_large": (64, 19, {"HardswishBackward0": 21}),
}


class Rectifier(torch.autograd.Function):
    """The reference: a rectifier whose backward pass is the paper's."""

    @staticmethod
    def forward(ctx, x: Tensor, high: float | None, rule: str) -> Tensor:
        ctx.rule = rule
        ctx.save_for_backward((x > 0) if high is None else (x > 0) & (x < high))
        return torch.clamp(x, min=0, max=high)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        (passed,) = ctx.saved_tensors
        positive = torch.clamp(gradient, min=0)
        return (positive if ctx.rule == "deconv" else torch.where(passed, positive, 0.0)), None, None


@contextmanager
def rectifiers_replaced(rule: str) -> Iterator[None]:
    """Patch every way of writing a ReLU that the nets here use."""
    clamp = Tensor.clamp

    def relu(x: Tensor, inplace: bool = False) -> Tensor:
        return Rectifier.apply(x, None, rule)

    def bounded(x: Tensor, low: float = -1.0, high: float = 1.0, inplace: bool = False) -> Tensor:
        assert low == 0
        return Rectifier.apply(x, high, rule)

    def clamped(x: Tensor, min: float | None = None, max: float | None = None) -> Tensor:  # noqa: A002
        return relu(x) if min == 0 and max is None and x.requires_grad else clamp(x, min, max)

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in (
            (F, "relu"),
            (F, "relu_"),
            (torch, "relu"),
            (torch, "relu_"),
            (Tensor, "relu"),
            (Tensor, "relu_"),
        ):
            patch.setattr(owner, name, relu)
        patch.setattr(nn.ReLU, "forward", lambda module, x: relu(x))
        patch.setattr(F, "hardtanh", bounded)
        patch.setattr(F, "relu6", lambda x, inplace=False: bounded(x, 0.0, 6.0))
        patch.setattr(Tensor, "clamp", clamped)
        yield


def reference(net: nn.Module, x: Tensor, rule: str, classes: Tensor) -> Tensor:
    """The gradient at the input, through the patched rectifiers (or none: the plain gradient)."""
    leaf = x.clone().requires_grad_()
    if rule == "standard":
        return torch.autograd.grad(chosen(net(leaf + 0), classes), leaf)[0]
    with rectifiers_replaced(rule):
        return torch.autograd.grad(chosen(net(leaf + 0), classes), leaf)[0]


def chosen(scores: Tensor, classes: Tensor) -> Tensor:
    return scores.gather(1, classes[:, None]).sum()


def maps(found: list[sightline.Explanation]) -> Tensor:
    return torch.stack([torch.tensor(e.attribution) for e in found])


def check_against_reference(net: nn.Module, x: Tensor, changed: int, unchanged: dict[str, int] | None = None) -> None:
    found = sightline.explain(net, x, ["guided_backprop", "deconvnet", "gradient"], "top1")
    with torch.no_grad():
        classes = net(x + 0).argmax(1)
    for name in ("guided_backprop", "deconvnet"):
        mine = [e for e in found if e.method == name]
        expected = reference(net, x, RULE_OF[name], classes)
        assert torch.equal(maps(mine), expected), f"{name}: {(maps(mine) - expected).abs().max()}"
        assert mine[0].coverage is not None
        assert (mine[0].coverage.rule, mine[0].coverage.changed) == (RULE_OF[name], changed)
        assert dict(mine[0].coverage.unchanged) == (unchanged or {})
        assert not mine[0].coverage.unseen
        assert expected.any()
        assert not torch.equal(expected, reference(net, x, "standard", classes))
    plain = [e for e in found if e.method == "gradient"]
    assert torch.equal(maps(plain), reference(net, x, "standard", classes))
    assert plain[0].coverage is None


@pytest.mark.parametrize("name", ZOO)
def test_torchvision_is_bit_identical(name):
    size, changed, unchanged = ZOO[name]
    check_against_reference(*calibrated(name, size), changed, unchanged)


class ClampNet(nn.Module):
    """Rectifiers under their rarer names."""

    def __init__(self, rectify: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1), nn.Linear(6, 5)
        self.rectify = rectify

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rectify(self.b(self.rectify(self.a(x)))).mean((2, 3)))


@pytest.mark.parametrize(
    ("build", "changed"),
    [(ConvNet, 2), (FunctionalNet, 3), (InplaceNet, 2), (ResidualNet, 3), (FirstReluNet, 2)],
    ids=lambda v: getattr(v, "__name__", v),
)
def test_tiny_nets_are_bit_identical(build, changed):
    net = drawn(build)
    check_against_reference(net, torch.randn(3, 3, 12, 12, generator=torch.Generator().manual_seed(0)), changed)


RECTIFIED: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu_": lambda h: h.relu_(),
    "relu6_": lambda h: F.hardtanh_(h, 0.0, 1e9),
    "clamp": lambda h: h.clamp(min=0),
    "clamp_": lambda h: h.clamp_(min=0),
    "clamp_min": lambda h: h.clamp_min(0),
    "clamp_min_": lambda h: h.clamp_min_(0),
    "clamp tensor": lambda h: h.clamp(min=torch.zeros(())),
    "clamp_min tensor": lambda h: h.clamp_min(torch.zeros(())),
    "clip": lambda h: h.clip(0),
    "threshold": lambda h: F.threshold(h, 0.0, 0.0),
    "threshold_": lambda h: F.threshold_(h, 0.0, 0.0),
}


@pytest.mark.parametrize("how", RECTIFIED)
@pytest.mark.parametrize("method", RULE_OF)
def test_every_spelling_of_relu_gives_the_same_map(how, method):
    x = torch.randn(2, 3, 10, 10, generator=torch.Generator().manual_seed(1))
    expected = sightline.explain(drawn(lambda: ClampNet(F.relu)), x, method, 2)
    found = sightline.explain(drawn(lambda: ClampNet(RECTIFIED[how])), x, method, 2)
    assert torch.equal(maps(found), maps(expected))
    assert found[0].coverage.changed == 2


@pytest.mark.parametrize(
    "other",
    [lambda h: h.clamp(min=0.1), lambda h: h.clamp(max=1), lambda h: F.threshold(h, 0.1, 0.0), lambda h: F.hardtanh(h)],
)
def test_what_does_not_cut_at_zero_is_no_rectifier(other):
    net = drawn(lambda: ClampNet(other))
    with pytest.raises(RefusedError, match="no ReLU"):
        sightline.explain(net, torch.randn(1, 3, 8, 8), "guided_backprop", 0)


def test_hard_sigmoid_gates_are_not_rectifiers_and_relu6_is():
    net = drawn(GateNet)
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    found = sightline.explain(net, x, ["guided_backprop", "gradient"], 1)
    assert found[0].coverage.changed == 1
    assert not torch.equal(maps(found[:1]), maps(found[1:2]))


class BiasedRelu6Net(nn.Module):
    """A ReLU6 after an added constant, scaled by a constant: it looks like a hard sigmoid and is none."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.conv, self.bias, self.head = nn.Conv2d(3, 6, 3), nn.Parameter(torch.randn(6, 1, 1)), nn.Linear(6, 5)
        self.scale = nn.Parameter(torch.rand(6, 1, 1) + scale)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu6(self.conv(x) + self.bias) * self.scale
        h = F.relu6(h + self.bias) * h
        return self.head(h.mean((2, 3)))


def test_relu6_after_a_frozen_bias_is_still_a_rectifier():
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    found = sightline.explain(drawn(lambda: BiasedRelu6Net(0.1)), x, "deconvnet", 1)
    assert found[0].coverage.changed == 2


# --- models that are not plain modules ------------------------------------------------------------------------------


def scripted(net: nn.Module, path) -> torch.jit.ScriptModule:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated; its models are still there
        torch.jit.script(net).save(path)
        return torch.jit.load(path)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(("name", "nodes"), [("resnet18", 17), ("residual", 3)])
def test_torchscript_three_times_in_a_row(name, nodes, tmp_path):
    net, x = calibrated(name, 64) if name in ZOO else make(name)
    loaded = scripted(net, tmp_path / "net.pt")
    expected = sightline.explain(net, x, ["guided_backprop", "deconvnet", "gradient"], 1)
    for _ in range(3):  # the profiling executor rewrites the graph from the second run on
        found = sightline.explain(loaded, x, ["guided_backprop", "deconvnet", "gradient"], 1)
        assert torch.equal(maps(found), maps(expected))
        assert [e.coverage and e.coverage.changed for e in found[:3]] == [nodes, nodes, None]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("in_place", [False, True])
def test_compiled_module_gives_what_the_module_gives(backend, in_place):
    net, x = make("residual")
    methods = ["guided_backprop", "deconvnet", "gradient", "grad_cam"]
    expected = sightline.explain(net, x, methods, 1)
    if in_place:
        net.compile(backend=backend)
    compiled = net if in_place else torch.compile(net, backend=backend)
    with torch.no_grad():
        compiled(x)  # compiled before anything is explained
    found = sightline.explain(compiled, x, methods, 1)
    assert all(
        torch.equal(torch.tensor(a.attribution), torch.tensor(b.attribution))
        for a, b in zip(found, expected, strict=True)
    )
    assert found[0].coverage.changed == 3


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch's own unflatten
@pytest.mark.parametrize("unflatten", [False, True])
def test_exported_module_gives_what_the_module_gives(unflatten):
    net, x = make("functional")
    program = torch.export.export(net, (x,))
    module = torch.export.unflatten(program) if unflatten else program.module()
    methods = ["guided_backprop", "deconvnet", "gradient"]
    found, expected = sightline.explain(module, x, methods, 1), sightline.explain(net, x, methods, 1)
    assert torch.equal(maps(found), maps(expected))
    assert found[0].coverage.changed == 3


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["guided_backprop", "deconvnet", "guided_grad_cam"])
def test_a_net_without_relu_is_refused_and_what_it_has_is_named(method):
    net, x = make("smooth")
    with pytest.raises(RefusedError, match=r"no ReLU to change \(it has 2 GeluBackward0\).*smooth_activations=True"):
        sightline.explain(net, x, method)


@pytest.mark.parametrize("method", ["guided_backprop", "deconvnet"])
def test_smooth_activations_are_changed_when_asked_for(method):
    net, x = make("smooth")
    found = sightline.explain(net, x, [method, "gradient"], 1, smooth_activations=True)
    assert (found[0].coverage.rule, found[0].coverage.changed) == (RULE_OF[method] + "_smooth", 2)
    assert not found[0].coverage.unchanged
    assert not torch.equal(maps(found[:1]), maps(found[1:2]))


@pytest.mark.parametrize("method", ["guided_backprop", "deconvnet"])
def test_relu_on_a_slice_is_refused(method):
    net = drawn(SliceReluNet)
    x = torch.randn(1, 3, 8, 8)
    with pytest.raises(RefusedError, match="CopySlices"):
        sightline.explain(net, x, method)
    assert sightline.explain(net, x, "gradient")[0].attribution.any()  # the plain gradient is right there


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize(("method", "message"), [("guided_backprop", "CheckpointFunction"), ("gradient", "reentrant")])
def test_reentrant_checkpoint_is_refused(method, message):
    with pytest.raises(RefusedError, match=message):
        sightline.explain(drawn(lambda: CheckpointNet(reentrant=True)), torch.randn(1, 3, 8, 8), method)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("method", ["gradient", "guided_backprop", "deconvnet"])
def test_checkpointed_parts_run_again_as_they_ran_first(method, training):
    # The backward pass runs them again: in evaluation mode, with the statistics left alone.
    net = drawn(CheckpointNet).train(training)
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    found = sightline.explain(net, x, method, 1)
    net.reentrant = None
    assert torch.equal(maps(found), maps(sightline.explain(net, x, method, 1)))
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert all(m.training == training for m in net.modules())


class OpaqueNet(nn.Module):
    """Compiles a part of itself where nobody sees it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 6, 3), nn.Linear(6, 5)
        self.hidden = torch.compile(lambda h: F.relu(h) * 2, backend="aot_eager")

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.hidden(self.conv(x))).mean((2, 3)))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch.compile looks at it, and hides it only by default
def test_a_part_that_was_compiled_out_of_sight_is_refused():
    net = drawn(OpaqueNet)
    x = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with pytest.raises(RefusedError, match="CompiledFunctionBackward"):
        sightline.explain(net, x, "guided_backprop", 0)
    leaf = x.clone().requires_grad_()
    (plain,) = torch.autograd.grad(net.head(F.relu(F.relu(net.conv(leaf)) * 2).mean((2, 3)))[:, 0].sum(), leaf)
    torch.testing.assert_close(maps(sightline.explain(net, x, "gradient", 0)), plain)


@pytest.mark.parametrize("rule", ["guided", "deconv"])
def test_custom_functions_are_counted_as_unseen(rule):
    net = drawn(CustomNet)
    x = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    method = {v: k for k, v in RULE_OF.items()}[rule]
    found = sightline.explain(net, x, method, 1)[0]
    assert dict(found.coverage.unseen) == {"StraightThroughBackward": 1}
    assert found.coverage.changed == 2  # one of them gets no gradient at all
    assert any("StraightThrough" in note for note in found.notes)


# --- hooks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["conv", "residual", "functional"])
def test_hooks_are_gone_afterwards(name):
    net, x = make(name)
    model = sightline.load(net)
    with record(model, x, Options(), 1) as rec, record(model, x, Options(), 1) as fresh:
        changed = {rule: rec.gradient("input", rule) for rule in ("guided", "deconv")}
        plain = rec.gradient()
        assert torch.equal(plain, fresh.gradient())
        assert not any(torch.equal(plain, c) for c in changed.values())


def test_hooks_are_gone_after_an_error():
    net, x = make("conv")
    leaf = x.clone().requires_grad_()
    score = net(leaf)[:, 0].sum()
    (before,) = torch.autograd.grad(score, leaf, retain_graph=True)
    with pytest.raises(ZeroDivisionError), applied(RULES["guided"], score.grad_fn):
        raise ZeroDivisionError
    assert torch.equal(before, torch.autograd.grad(score, leaf)[0])


def test_find_nodes_gives_each_node_once_roots_first():
    x = torch.randn(3, requires_grad=True)
    shared = x.relu()
    y = (shared + shared * shared).sum()
    nodes = find_nodes(y.grad_fn, None)
    assert nodes[0] is y.grad_fn
    assert len(nodes) == len(set(nodes))
    assert sorted(n.name().rpartition("::")[2] for n in nodes) == [
        "AccumulateGrad", "AddBackward0", "MulBackward0", "ReluBackward0", "SumBackward0",
    ]  # fmt: skip


def test_find_nodes_survives_a_graph_deeper_than_the_stack():
    y = torch.ones((), requires_grad=True)
    for _ in range(3000):
        y = y + 1
    assert len(find_nodes(y.grad_fn)) == 3001


# --- torch's private names: a new torch that renames them must fail here, loudly --------------------------------------

NODES: dict[str, tuple[Callable[[Tensor], Tensor], str, dict[str, object]]] = {
    "relu": (F.relu, "ReluBackward0", {}),
    "relu_": (lambda h: h.relu_(), "ReluBackward0", {}),
    "relu6": (F.relu6, "HardtanhBackward0", {"_saved_min_val": 0.0, "_saved_max_val": 6.0}),
    "relu6_": (nn.ReLU6(inplace=True), "HardtanhBackward0", {"_saved_min_val": 0.0, "_saved_max_val": 6.0}),
    "hardtanh_": (lambda h: F.hardtanh_(h, 0.0, 2.0), "HardtanhBackward0", {"_saved_min_val": 0.0}),
    "clamp": (lambda h: h.clamp(0, 1), "ClampBackward1", {"_saved_min": 0, "_saved_max": 1}),
    "clamp_": (lambda h: h.clamp_(min=0), "ClampBackward1", {"_saved_min": 0, "_saved_max": None}),
    "clamp tensor": (lambda h: h.clamp(min=torch.zeros(())), "ClampBackward0", {"_saved_min": 0, "_saved_max": None}),
    "clamp_min": (lambda h: h.clamp_min(0), "ClampMinBackward0", {"_saved_min": 0}),
    "clamp_min_": (lambda h: h.clamp_min_(0), "ClampMinBackward0", {"_saved_min": 0}),
    "clamp_min tensor": (lambda h: h.clamp_min(torch.zeros(())), "ClampMinBackward1", {"_saved_min": 0}),
    "threshold": (nn.Threshold(0.0, 0.0), "ThresholdBackward0", {"_saved_threshold": 0}),
    "threshold_": (nn.Threshold(0.0, 0.0, inplace=True), "ThresholdBackward1", {"_saved_threshold": 0}),
    "gelu": (F.gelu, "GeluBackward0", {}),
    "silu": (F.silu, "SiluBackward0", {}),
    "silu_": (nn.SiLU(inplace=True), "SiluBackward0", {}),
    "hardswish": (F.hardswish, "HardswishBackward0", {}),
    "hardswish_": (nn.Hardswish(inplace=True), "HardswishBackward0", {}),
    "mish": (F.mish, "MishBackward0", {}),
    "elu": (F.elu, "EluBackward0", {}),
    "elu_": (nn.ELU(inplace=True), "EluBackward1", {}),
    "selu": (F.selu, "EluBackward0", {}),
    "celu": (F.celu, "CeluBackward0", {}),
    "leaky_relu": (F.leaky_relu, "LeakyReluBackward0", {}),
    "leaky_relu_": (nn.LeakyReLU(inplace=True), "LeakyReluBackward1", {}),
    "rrelu": (F.rrelu, "RreluWithNoiseBackward0", {}),
    "prelu": (lambda h: F.prelu(h, torch.full((1,), 0.1)), "PreluKernelBackward0", {}),
    "softplus": (F.softplus, "SoftplusBackward0", {}),
    "add a constant": (lambda h: h + 3, "AddBackward0", {}),
    "divide": (lambda h: h / 6, "DivBackward0", {"_saved_other": 6}),
    "multiply": (lambda h: h * 0.5, "MulBackward0", {"_saved_other": 0.5}),
}  # fmt: skip


@pytest.mark.parametrize("how", NODES)
def test_node_names_and_saved_values_are_those_of_the_tables(how):
    function, name, saved = NODES[how]
    node = function(torch.randn(2, 3, 4, 4, requires_grad=True) + 0).grad_fn
    assert node.name() == name, f"torch {torch.__version__} names the node of {how} {node.name()}: update graph.py"
    assert {k: getattr(node, k) for k in saved} == saved


def test_the_pins_cover_the_tables():
    pinned = {name for _, name, _ in NODES.values()}
    assert set(RECTIFIERS) | SMOOTH_ACTIVATIONS <= pinned


def test_a_constant_operand_has_no_node():
    h = torch.randn(2, requires_grad=True) * 1
    assert [n is None for n, _ in (h + 3).grad_fn.next_functions] == [False, True]
    assert [n is None for n, _ in (h * h).grad_fn.next_functions] == [False, False]


def test_slices_and_checkpoints_have_the_opaque_names():
    h = torch.randn(2, 3, requires_grad=True) * 1
    h[:, :1].relu_()
    assert "CopySlices" in h.grad_fn.name()
    net = drawn(lambda: CheckpointNet(reentrant=True))
    x = torch.randn(1, 3, 8, 8, requires_grad=True)
    assert any("CheckpointFunctionBackward" in n.name() for n in find_nodes(net(x).grad_fn))


def test_a_custom_function_is_recognised_as_one():
    node = Rectifier.apply(torch.randn(2, requires_grad=True), None, "guided").grad_fn
    assert isinstance(node, torch.autograd.function.BackwardCFunction)
    assert not isinstance(F.relu(torch.randn(2, requires_grad=True)).grad_fn, torch.autograd.function.BackwardCFunction)


def test_coverage_as_plain_values():
    net, x = make("conv")
    found = sightline.explain(net, x[:1], "guided_backprop", 0)[0].coverage
    assert found.to_dict() == {"rule": "guided", "changed": 2, "unchanged": {}, "unseen": {}}


def test_coverage_survives_a_noise_average():
    net, x = make("conv")
    found = sightline.explain(net, x[:1], "guided_backprop", 0, smooth_samples=3, chunk=1)[0]
    assert found.coverage is not None
    assert found.coverage.changed == 2


def test_mixed_net_says_what_it_left_alone():
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = drawn(ConvNet), drawn(SmoothNet)

        def forward(self, x: Tensor) -> Tensor:
            return self.a(x) + self.b(x)

    found = sightline.explain(Mixed(), torch.randn(1, 3, 16, 16), "guided_backprop", 0)[0]
    assert (found.coverage.changed, dict(found.coverage.unchanged)) == (2, {"GeluBackward0": 2})
    assert any("2 Gelu" in note for note in found.notes)
