"""DeepLIFT, LRP and their kin: closed forms in float64, completeness and conservation, and against strangers."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import sightline
from nets import (
    NETS,
    CheckpointNet,
    CustomNet,
    FirstReluNet,
    GateNet,
    LinearNet,
    NoGradTrunkNet,
    SliceReluNet,
    calibrated,
    drawn,
    make,
    settle,
)
from sightline import targets
from sightline.errors import ParameterError, RefusedError
from sightline.methods import relevance
from sightline.models.model import Model
from sightline.propagation.composites import COMPOSITES
from sightline.propagation.presets import CompositeName, composite_rule
from sightline.recording import Options, Recording, record

COMPOSITE_NAMES = CompositeName.__args__
ODD = {
    "first": FirstReluNet, "gate": GateNet, "slice": SliceReluNet,
}  # fmt: skip


def opened(net: nn.Module, x: Tensor, target: int = 1, **options: Any) -> Recording:
    from sightline.geometry import Preprocessing

    how = Preprocessing(resize=None, crop=None, mean=(0.5,) * x.shape[1], std=(0.25,) * x.shape[1])
    return record(Model(net, "net", how), x, Options(**options), target)


def dense(*sizes: int, bias: bool = True, seed: int = 0) -> nn.Sequential:
    """A net of dense layers with ReLUs between, in float64."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        layers: list[nn.Module] = [nn.Flatten()]
        for i, o in pairwise(sizes):
            layers += [nn.Linear(i, o, bias=bias), nn.ReLU()]
    return nn.Sequential(*layers[:-1]).double()


def inputs(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def per_image(values: Tensor) -> Tensor:
    return values.flatten(1).sum(1)


# --- closed forms ---------------------------------------------------------------------------------------------------


def test_lrp_0_of_a_linear_net_is_input_times_weight():
    net = drawn(LinearNet).double()
    x = inputs(2, 3, 8, 8)
    found = relevance.lrp(opened(net, x), "epsilon", epsilon=1e-12)
    torch.testing.assert_close(found, x * net.head.weight[1].reshape(3, 8, 8), rtol=1e-9, atol=1e-12)


def test_lrp_0_of_a_rectifier_net_is_input_times_gradient():
    net, x = make("residual", torch.float64)
    rec = opened(net, x)
    torch.testing.assert_close(
        relevance.lrp(rec, "epsilon", epsilon=1e-12), rec.x * rec.gradient(), rtol=1e-6, atol=1e-9
    )


def shared_out(x: Tensor, z: Tensor, relevance_out: Tensor, bias: Tensor | float = 0.0) -> Tensor:
    """R_i = sum_k z_ik R_k / (sum_i z_ik + b_k) for explicit terms z (N, K, I)."""
    below = z.sum(2) + bias
    return (z * (relevance_out / (below + torch.where(below >= 0, 1e-6, -1e-6))).unsqueeze(2)).sum(1)


def by_matrix(net: nn.Sequential, x: Tensor, terms: Any, first: Any = None) -> Tensor:
    """LRP of a net of dense layers by explicit matrices, layer by layer."""
    activations = [x.flatten(1)]
    for layer in net[1:]:
        activations.append(layer(activations[-1]))
    found = torch.zeros_like(activations[-1])
    found[:, 1] = activations[-1][:, 1]
    for i in reversed(range(len(net) - 1)):
        if isinstance(net[i + 1], nn.Linear):
            rule = first if first is not None and i == 0 else terms
            found = rule(activations[i], net[i + 1].weight, net[i + 1].bias, activations[i + 1], found)
    return found.detach()


def z_plus(a: Tensor, w: Tensor, b: Tensor | None, y: Tensor, r: Tensor) -> Tensor:
    return shared_out(a, (a[:, None] * w).clamp(min=0), r, 0.0 if b is None else b.clamp(min=0))


def z_plus_alone(a: Tensor, w: Tensor, b: Tensor | None, y: Tensor, r: Tensor) -> Tensor:
    return z_plus(a, w, None, y, r)


def epsilon(a: Tensor, w: Tensor, b: Tensor | None, y: Tensor, r: Tensor) -> Tensor:
    return shared_out(a, a[:, None] * w, r, 0.0 if b is None else b)


def gamma(a: Tensor, w: Tensor, b: Tensor | None, y: Tensor, r: Tensor) -> Tensor:
    z, bias = a[:, None] * w, torch.zeros(len(w)).to(w) if b is None else b
    up = shared_out(a, z + 0.25 * z.clamp(min=0), r * (y > 0), bias + 0.25 * bias.clamp(min=0))
    return up + shared_out(a, z + 0.25 * z.clamp(max=0), r * (y < 0), bias + 0.25 * bias.clamp(max=0))


def z_box(a: Tensor, w: Tensor, b: Tensor | None, y: Tensor, r: Tensor) -> Tensor:
    low, high = (
        torch.full_like(a, -2.0).minimum(a.amin(1, keepdim=True)),
        torch.full_like(a, 2.0).maximum(a.amax(1, keepdim=True)),
    )
    return shared_out(a, a[:, None] * w - low[:, None] * w.clamp(min=0) - high[:, None] * w.clamp(max=0), r)


def w_square(a: Tensor, w: Tensor, b: Tensor | None, y: Tensor, r: Tensor) -> Tensor:
    return shared_out(a, (w**2).expand(len(a), -1, -1), r)


def flat(a: Tensor, w: Tensor, b: Tensor | None, y: Tensor, r: Tensor) -> Tensor:
    return shared_out(a, torch.ones_like(w).expand(len(a), -1, -1), r)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("composite", "rule", "first"),
    [
        ("z_plus", z_plus, None),
        ("epsilon", epsilon, None),
        ("gamma", gamma, None),
        ("epsilon_plus", epsilon, None),
        ("epsilon_plus_flat", epsilon, flat),
        ("epsilon_gamma_box", epsilon, z_box),
    ],
)
def test_rules_are_what_explicit_matrices_give(composite, rule, first, bias):
    net, x = dense(12, 9, 7, 4, bias=bias), inputs(3, 3, 2, 2)
    found = relevance.lrp(opened(net, x), composite)
    torch.testing.assert_close(found.flatten(1), by_matrix(net, x, rule, first), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("first", "rule"), [("z_box", z_box), ("w_square", w_square), ("flat", flat)])
def test_deep_taylor_is_what_explicit_matrices_give(first, rule):
    net, x = dense(12, 9, 7, 4), inputs(3, 3, 2, 2)
    found = relevance.deep_taylor(opened(net, x), first)
    torch.testing.assert_close(found.flatten(1), by_matrix(net, x, z_plus_alone, rule), rtol=1e-9, atol=1e-12)


def test_alpha_beta_is_what_explicit_matrices_give():
    # A convolution of the picture's size is a dense layer.
    flat_net, x = dense(12, 9, 4, bias=False), inputs(3, 3, 2, 2)
    net = nn.Sequential(
        nn.Conv2d(3, 9, 2, bias=False), nn.ReLU(), nn.Conv2d(9, 4, 1, bias=False), nn.Flatten()
    ).double()
    net[0].weight.data, net[2].weight.data = flat_net[1].weight.reshape(9, 3, 2, 2), flat_net[3].weight[..., None, None]

    def alpha_beta(a: Tensor, w: Tensor, b: Tensor | None, y: Tensor, r: Tensor) -> Tensor:
        z = a[:, None] * w
        return 2 * shared_out(a, z.clamp(min=0), r) - shared_out(a, z.clamp(max=0), r)

    found = relevance.lrp(opened(net, x), "epsilon_alpha2_beta1")
    torch.testing.assert_close(found.flatten(1), by_matrix(flat_net, x, alpha_beta), rtol=1e-9, atol=1e-12)


def test_excitation_backprop_is_a_walk_down_positive_weights():
    net, x = dense(12, 9, 4), inputs(2, 3, 2, 2)
    found = relevance.excitation_backprop(opened(net, x))
    wanted = by_matrix(net, x, z_plus_alone) / net(x)[:, 1, None].detach()
    torch.testing.assert_close(found.flatten(1), wanted, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(per_image(found), torch.ones(2).double(), rtol=1e-3, atol=0)


def test_contrastive_excitation_backprop_subtracts_the_walk_from_negated_weights():
    net, x = dense(12, 9, 4), inputs(2, 3, 2, 2)
    dual = dense(12, 9, 4)
    dual[3].weight.data *= -1
    wanted = [by_matrix(n, x, z_plus_alone) / n(x)[:, 1, None].detach() for n in (net, dual)]
    found = relevance.contrastive_excitation_backprop(opened(net, x))
    torch.testing.assert_close(found.flatten(1), wanted[0] - wanted[1], rtol=1e-9, atol=1e-12)


def test_deep_lift_of_a_linear_net_is_the_difference_times_the_weight():
    net, x = drawn(LinearNet).double(), inputs(2, 3, 8, 8)
    start = inputs(3, 8, 8, seed=2)
    found = relevance.deep_lift(opened(net, x), start)
    torch.testing.assert_close(found, (x - start) * net.head.weight[1].reshape(3, 8, 8))


def test_deep_lift_of_one_unit_is_the_ratio_of_changes():
    # Shrikumar et al. 2017, fig. 1: 1 - relu(1 - i1 - i2) saturates at 1, where its gradient is 0.
    class Saturating(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 1 - F.relu(1 - x.flatten(1).sum(1, keepdim=True)) * torch.ones(1, 2).to(x)

    x = torch.ones(1, 1, 1, 2, dtype=torch.float64)
    rec = opened(Saturating(), x, 0)
    assert not rec.gradient().any()
    torch.testing.assert_close(relevance.deep_lift(rec), torch.full_like(x, 0.5))


# --- completeness and conservation ----------------------------------------------------------------------------------


@pytest.mark.parametrize("baseline", ["zero", "uniform", "blur"])
@pytest.mark.parametrize("name", [*NETS, *ODD])
def test_deep_lift_accounts_for_all_of_the_change(name, baseline):
    net, x = make(name, torch.float64) if name in NETS else settle(drawn(ODD[name]), 2, 3, 16, 16)
    rec = opened(net.double(), x.double())
    found = relevance.deep_lift(rec, baseline)
    (report, *_) = rec.reports["completeness"]
    assert report.gap < 1e-9
    assert rec.coverages[0].unseen == {}
    start = sightline.points.baseline_of(baseline, rec.x, rec.model.preprocessing, 0)
    torch.testing.assert_close(per_image(found), rec.scores - next(rec.scores_at([start])), rtol=1e-8, atol=1e-10)


class Pools(nn.Module):
    """Overlapping and adaptive max pools, maxima over dimensions and of two tensors, products and quotients."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Conv2d(3, 6, 3), nn.Conv2d(3, 6, 3), nn.Linear(30, 4)

    def forward(self, x: Tensor) -> Tensor:
        a = F.max_pool2d(self.a(x), 3, 2, 1)
        b = F.relu(F.max_pool2d(self.b(x), 3, 2, padding=1))
        parts = (
            F.adaptive_max_pool2d(a, 1).flatten(1), torch.maximum(a, b).amax((2, 3)), b.flatten(2).max(2)[0],
            (a / (1 + b * b)).mean((2, 3)), F.normalize(a.flatten(1))[:, :6] * torch.softmax(b.mean((2, 3)), 1),
        )  # fmt: skip
        return self.head(torch.cat(parts, 1))


def test_deep_lift_accounts_for_pools_maxima_and_products():
    net, x = drawn(Pools).double(), inputs(2, 3, 14, 14)
    rec = opened(net, x)
    relevance.deep_lift(rec, "uniform")
    assert max(r.gap for r in rec.reports["completeness"]) < 1e-9
    assert rec.coverages[0].unseen == {}


@pytest.mark.parametrize(
    "act",
    [nn.ReLU6(), nn.Hardtanh(), nn.LeakyReLU(0.1), nn.PReLU(), nn.ELU(), nn.SELU(), nn.CELU(), nn.GELU(), nn.SiLU(),
     nn.Mish(), nn.Softplus(), nn.Softsign(), nn.Tanh(), nn.Sigmoid(), nn.Hardsigmoid(), nn.Hardswish(),
     nn.LogSigmoid(), nn.Hardshrink(), nn.Tanhshrink(), nn.Threshold(0.1, 0.0), nn.Softmax(1), nn.LogSoftmax(1),
     nn.LayerNorm(8), nn.GroupNorm(2, 6), nn.GLU(2), nn.RMSNorm(8), nn.ReLU6(inplace=True), nn.Hardswish(inplace=True),
     nn.SiLU(inplace=True), nn.LeakyReLU(0.1, inplace=True), nn.MultiheadAttention(8, 2, batch_first=True)],
    ids=repr,
)  # fmt: skip
def test_deep_lift_accounts_for_every_activation(act):
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.act = nn.Conv1d(2, 6, 3, padding=1), act
            self.head = nn.Linear(6 * (4 if isinstance(act, nn.GLU) else 8), 3)

        def forward(self, x: Tensor) -> Tensor:
            h = 3 * self.conv(x)
            h = self.act(h, h, h)[0] if isinstance(self.act, nn.MultiheadAttention) else self.act(h)
            return self.head(h.flatten(1))

    net, x = drawn(Net).double(), inputs(2, 2, 8)
    rec = opened(net, x)
    relevance.deep_lift(rec, "uniform")
    assert max(r.gap for r in rec.reports["completeness"]) < 1e-9
    assert rec.coverages[0].unseen == {}


@pytest.mark.parametrize(
    "target",
    [targets.Contrast(1, 2), targets.Joint((0, 1)), targets.Unit("blocks.0.mlp.2", 3), lambda z: z.square().sum(1),
     targets.Similarity(torch.linspace(-1, 1, 5))],
    ids=lambda t: type(t).__name__,
)  # fmt: skip
def test_deep_lift_accounts_for_any_target(target):
    net, x = make("tokens", torch.float64)
    for e in sightline.explain(net, x, "deep_lift", target):
        assert e.completeness.gap < 1e-9
        assert e.coverage.unseen == {}


def test_deep_lift_shap_is_the_mean_of_deep_lifts():
    net, x = make("conv", torch.float64)
    rec, baselines = opened(net, x), inputs(4, 3, 16, 16)
    found = relevance.deep_lift_shap(rec, baselines, samples=9)
    torch.testing.assert_close(found, torch.stack([relevance.deep_lift(rec, b) for b in baselines]).mean(0))
    with pytest.raises(ParameterError, match=r"deep_lift_shap\.baselines has shape"):
        relevance.deep_lift_shap(rec, inputs(4, 3, 8, 8))


def without_bias(net: nn.Module) -> nn.Module:
    for part in net.modules():
        if getattr(part, "bias", None) is not None:
            part.bias.data.zero_()
    return net


# Alpha-beta conserves only where every output has something for it and something against it.
@pytest.mark.parametrize("composite", [n for n in COMPOSITE_NAMES if "alpha2" not in n])
@pytest.mark.parametrize("name", ["inplace", "functional", "residual", "signal", "volume"])
def test_lrp_without_biases_conserves_the_score(name, composite):
    net, x = make(name, torch.float64)
    rec = opened(without_bias(net), x)
    found = relevance.lrp(rec, composite)
    torch.testing.assert_close(per_image(found), rec.scores, rtol=2e-2, atol=1e-4)  # less what stabilisers take


@pytest.mark.parametrize("name", ["conv", "inplace", "functional", "residual", "signal", "volume", "softmax", "smooth"])
def test_deep_taylor_conserves_the_score_whatever_the_biases(name):
    net, x = make(name, torch.float64)
    rec = opened(net, x)
    torch.testing.assert_close(per_image(relevance.deep_taylor(rec)), rec.scores, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("composite", COMPOSITE_NAMES)
def test_batch_norm_is_folded_into_the_layer_before_it(composite):
    net, x = make("conv", torch.float64)
    folded = torch.nn.utils.fusion.fuse_conv_bn_eval(net.features[0], net.features[1])
    plain = nn.Sequential(folded, *net.features[2:], net.pool, nn.Flatten(), net.head)
    found, wanted = (relevance.lrp(opened(n, x), composite) for n in (net, plain))
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-9)


def test_the_forward_pass_is_unchanged():
    net, x = make("tokens", torch.float64)
    rec = opened(net, x)
    for rule in (composite_rule("epsilon_plus", 1e-6, 0.25), composite_rule("gamma", 1e-6, 0.25)):
        torch.testing.assert_close(rec.propagate(rule).scores, rec.scores)
    passes = list(rec.shared.passes)
    rec.propagate(composite_rule("gamma", 1e-6, 0.25))
    assert rec.shared.passes == [passes[0], passes[1] + 1]  # the pass is kept for other targets


def test_one_pass_serves_several_targets():
    net, x = make("conv", torch.float64)
    several = sightline.explain(net, x, ["lrp", "deep_lift"], [0, 2])
    alone = {(m, t): sightline.explain(net, x, m, t) for m in ("lrp", "deep_lift") for t in (0, 2)}
    for e in several:
        assert any(np.allclose(e.attribution, a.attribution) for a in alone[e.method, e.target.index])


# --- composite operations -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", ["none", "float", "bool", "causal", "padding"])
@pytest.mark.parametrize("first", [True, False])
def test_multi_head_attention_written_out_is_torchs_own(masked, first):
    attention = drawn(lambda: nn.MultiheadAttention(8, 2, batch_first=first)).double()

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention, self.head = attention, nn.Linear(8, 3).double()

        def forward(self, x: Tensor) -> Tensor:
            h = x.transpose(1, 2) if first else x.permute(2, 0, 1)
            mask = {"float": torch.linspace(-1, 1, 25).reshape(5, 5).double(), "bool": torch.eye(5) > 0}.get(masked)
            padding = torch.tensor([[False] * 4 + [True]] * 2) if masked == "padding" else None
            if masked == "causal":
                mask = torch.ones(5, 5).triu(1) > 0
            out, weights = self.attention(h, h, h, attn_mask=mask, key_padding_mask=padding)
            assert weights.shape == (2, 5, 5)
            return self.head(out.mean(1 if first else 0))

    rec = opened(drawn(Net).double(), inputs(2, 8, 5))
    found = rec.propagate(composite_rule("epsilon", 1e-12, 0.25))
    torch.testing.assert_close(found.scores, rec.scores)
    relevance.deep_lift(rec, "uniform")
    assert max(r.gap for r in rec.reports["completeness"]) < 1e-9


@pytest.mark.parametrize("how", [{}, {"is_causal": True}, {"scale": 0.3}, {"attn_mask": torch.eye(5) > 0}], ids=str)
def test_attention_written_out_is_torchs_own(how):
    q, k, v = inputs(3, 2, 4, 5, 6).unbind()

    class Run:
        changed: dict[str, int] = {"scaled_dot_product_attention": 0}  # noqa: RUF012

        def __enter__(self) -> None: ...
        def __exit__(self, *_: object) -> None: ...

    from sightline.propagation.mode import Call

    call = Call("scaled_dot_product_attention", F.scaled_dot_product_attention, (q, k, v), how)
    found = COMPOSITES["scaled_dot_product_attention"](Run(), call)  # type: ignore[arg-type]
    torch.testing.assert_close(found, F.scaled_dot_product_attention(q, k, v, **how))


def test_attention_gives_a_quarter_to_queries_and_keys_and_half_to_values():
    # Achtibat et al. 2024, sec. 3.2: without biases and norms, all of the score is passed on but what softmax keeps.
    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            h = x.flatten(2).transpose(1, 2)
            return (torch.softmax(h @ h.mT, -1).detach() @ h).mean(1)

    class Product(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            h = x.flatten(2).transpose(1, 2)
            return ((h @ h.mT) @ h).mean(1)

    x = inputs(2, 4, 2, 3)
    for net in (Net().double(), Product().double()):
        rec = opened(net, x)
        torch.testing.assert_close(per_image(relevance.lrp(rec)), rec.scores, rtol=1e-5, atol=1e-8)


def test_attn_lrp_is_refused_without_attention_and_works_with_it():
    net, x = make("conv", torch.float64)
    with pytest.raises(RefusedError, match="no attention was seen"):
        relevance.attn_lrp(opened(net, x))
    net, x = make("tokens", torch.float64)
    rec = opened(net, x)
    same = relevance.lrp(rec, "gamma", gamma=0.05)
    torch.testing.assert_close(relevance.attn_lrp(rec), same)


# --- what cannot be seen is said ------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_is_refused():
    net, x = make("inplace", torch.float64)
    scripted = torch.jit.trace(net, x)
    for name in ("lrp", "deep_lift"):
        with pytest.raises(RefusedError, match="TorchScript"):
            sightline.explain(scripted, x, name, 1)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("name", ["lrp", "deep_lift"])
def test_checkpointing_is_refused(name, reentrant):
    net, x = settle(drawn(lambda: CheckpointNet(reentrant=reentrant)), 2, 3, 16, 16)
    with pytest.raises(RefusedError, match="checkpointing"):
        sightline.explain(net, x, name, 1)


def test_no_path_to_the_input_is_refused():
    net, x = settle(drawn(NoGradTrunkNet), 2, 3, 16, 16)
    with pytest.raises(RefusedError, match="do not depend on its input"):
        sightline.explain(net, x, "lrp", 1)


@pytest.mark.parametrize("name", ["lrp", "deep_lift"])
def test_what_has_no_rule_is_counted(name):
    net, x = settle(drawn(CustomNet), 2, 3, 16, 16)
    (found, *_) = sightline.explain(net, x, name, 1)
    assert found.coverage.unseen == {"StraightThroughBackward": 1}
    assert any("could not see into: StraightThroughBackward" in n for n in found.notes)

    class Cumulative(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :5].cumprod(1)

    (found, *_) = sightline.explain(Cumulative(), x + 3, name, 1)
    assert found.coverage.unseen == {"CumprodBackward0": 1}


def test_another_course_for_the_baseline_is_refused():
    class Fork(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            h = x.flatten(1)[:, :3]
            return F.relu(h) if bool((x > 0).any()) else h

    with pytest.raises(RefusedError, match="something else for the image than for the baseline"):
        sightline.explain(Fork(), torch.ones(1, 3, 4, 4), "deep_lift", 1)


def test_a_bridged_model_is_refused():
    class _Bridge(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.mean((2, 3))

        @staticmethod
        def backward(ctx: Any, *g: Tensor) -> Tensor:
            return g[0][..., None, None].expand(-1, -1, 4, 4) / 16

    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return _Bridge.apply(x)

    with pytest.raises(RefusedError, match="KERAS_BACKEND=torch"):
        sightline.explain(Net(), torch.ones(1, 3, 4, 4), "lrp", 1)


def test_an_exported_program_is_explained_like_the_module_it_came_from():
    net, x = make("residual", torch.float64)
    program = torch.export.export(net, (x,)).module()
    for name in ("lrp", "deep_lift"):
        found, wanted = (sightline.explain(m, x, name, 1) for m in (program, net))
        assert all(np.allclose(f.attribution, w.attribution, rtol=1e-6) for f, w in zip(found, wanted, strict=True))


# --- real architectures ---------------------------------------------------------------------------------------------

ARCHITECTURES = {
    "resnet18": 64, "vgg11": 64, "squeezenet1_1": 64, "densenet121": 64, "googlenet": 64, "inception_v3": 128,
    "mobilenet_v2": 64, "efficientnet_b0": 64, "mobilenet_v3_small": 64, "regnet_y_400mf": 64, "convnext_tiny": 64,
    "swin_t": 64,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_deep_lift_is_complete_on_torchvisions_models(name):
    net, x = calibrated(name, ARCHITECTURES[name], images=1)
    rec = opened(net.double(), x.double())
    relevance.deep_lift(rec)
    (report,) = rec.reports["completeness"]
    assert report.gap < 1e-4
    assert abs(report.expected) > 1e-5
    assert rec.coverages[0].unseen == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", [a for a in ARCHITECTURES if a != "vgg11"])
def test_lrp_sees_all_of_torchvisions_models_and_stays_of_the_order_of_the_score(name):
    net, x = calibrated(name, ARCHITECTURES[name], images=1)
    rec = opened(net.double(), x.double())
    found = relevance.lrp(rec)
    assert rec.coverages[0].unseen == {}
    assert float(per_image(found).abs()) < 3 * float(rec.shared.forward.logits.detach().abs().max())


# --- against strangers ----------------------------------------------------------------------------------------------


class Plain(nn.Module):
    """A net on which captum is right: every activation is a module of its own, and pools are averages."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(6, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 5),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).flatten(1)


@pytest.mark.reference
@pytest.mark.filterwarnings("ignore")
def test_deep_lift_is_captums_where_captum_is_right():
    captum = pytest.importorskip("captum.attr", reason="captum, a development dependency, is not installed")
    net, x, start = drawn(Plain).double(), inputs(2, 3, 16, 16), inputs(1, 3, 16, 16, seed=3)
    wanted, gap = captum.DeepLift(net).attribute(x, start.expand_as(x), target=1, return_convergence_delta=True)
    assert float(gap.abs().max()) < 1e-9
    found = relevance.deep_lift(opened(net, x), start)
    torch.testing.assert_close(found, wanted.detach(), rtol=1e-6, atol=1e-9)


@pytest.mark.reference
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("composite", "rule"), [("epsilon", "EpsilonRule"), ("gamma", "GammaRule")])
def test_lrp_is_captums_on_plain_nets(composite, rule):
    pytest.importorskip("captum.attr", reason="captum, a development dependency, is not installed")
    from captum.attr import LRP
    from captum.attr._utils import lrp_rules

    net, x = drawn(Plain).double(), inputs(2, 3, 16, 16)
    x = x.abs() if composite == "gamma" else x  # captum's gamma is for inputs that are not negative
    found = relevance.lrp(opened(net, x), composite)
    for part in net.modules():
        if isinstance(part, (nn.Conv2d, nn.Linear)):
            part.rule = lrp_rules.EpsilonRule(1e-6) if rule == "EpsilonRule" else lrp_rules.GammaRule(gamma=0.25)
    wanted = LRP(net).attribute(x, target=1).detach()
    cosine = float(F.cosine_similarity(found.flatten(), wanted.flatten(), dim=0))
    assert cosine > (0.9999 if composite == "epsilon" else 0.9)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_keras_batch_norm_of_single_steps_is_folded_as_torchs_own_is():
    from sightline.models.keras import import_keras

    keras = import_keras()
    if keras.backend.backend() != "torch":
        pytest.skip("keras runs on another backend")
    layers, generator = keras.layers, np.random.default_rng(0)
    net = keras.Sequential(
        [keras.Input((12, 12, 3)), layers.Conv2D(6, 3), layers.BatchNormalization(), layers.ReLU(),
         layers.Conv2D(8, 3), layers.BatchNormalization(), layers.ReLU(), layers.GlobalAveragePooling2D(),
         layers.Dense(4)]
    )  # fmt: skip
    for layer in net.layers:
        layer.set_weights([generator.uniform(0.2, 1.0, w.shape) - 0.4 * (w.ndim > 1) for w in layer.get_weights()])
    twin = nn.Sequential(*(made for layer in net.layers for made in _torchs(layer))).eval()
    x = inputs(2, 3, 12, 12).float()
    ours = sightline.load(net)
    theirs = sightline.load(twin, preprocessing=ours.preprocessing)  # z-box asks what black and white are
    for method, parameters in (
        ("deep_lift", {}), ("lrp", {}), ("lrp", {"composite": "epsilon_plus_flat"}),
        ("lrp", {"composite": "epsilon_gamma_box"}), ("deep_taylor", {}),
    ):  # fmt: skip
        found, wanted = (sightline.explain(n, x, method, 1, **parameters)[0].attribution for n in (ours, theirs))
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-5 * float(np.abs(wanted).max()))


def _torchs(layer: Any) -> list[nn.Module]:
    """The torch layers that do what a Keras layer does."""
    weights = [torch.tensor(w) for w in layer.get_weights()]
    kind = type(layer).__name__
    if kind == "Conv2D":
        made: nn.Module = nn.Conv2d(*weights[0].shape[2:], 3)
        made.weight.data, made.bias.data = weights[0].permute(3, 2, 0, 1).contiguous(), weights[1]
    elif kind == "BatchNormalization":
        made = nn.BatchNorm2d(len(weights[0]), eps=layer.epsilon)
        made.weight.data, made.bias.data, made.running_mean, made.running_var = weights
    elif kind == "Dense":
        made = nn.Linear(*weights[0].shape)
        made.weight.data, made.bias.data = weights[0].T.contiguous(), weights[1]
    else:
        return [nn.ReLU()] if kind == "ReLU" else [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return [made]
