"""To register a method is to be tested: every method on every tiny net, in every precision."""

from __future__ import annotations

import inspect
import math
import re
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sightline
from nets import NETS, make
from sightline.errors import LayerError, ParameterError, RefusedError
from sightline.methods import METHODS, Method, find_method, find_methods, method, resolve_parameters
from sightline.recording import Recording

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}  # float64 is what all else here is done in
SAMPLED = {"smooth_grad", "square_grad", "var_grad", "expected_gradients", "smooth_grad_cam_plus_plus"}
SAMPLED |= {"deep_lift_shap", "random", "ss_cam", "rise", "shapley_sampling", "kernel_shap", "lime", "sobol", "hsic"}
# Where nothing but average pooling and a linear layer follow, the gradient at the layer is the same for any image;
# and without max pooling DeconvNet does not look at the image at all.
SAME_FOR_ANY_IMAGE = {
    *(("smooth_grad_cam_plus_plus", net) for net in set(NETS) - {"functional", "tokens", "registers"}),
    ("deconvnet", "signal"),
    ("shapley_sampling", "channels_last"),  # its scores add up over positions, so every order gives the same
}
RECTIFYING = {"guided_backprop", "deconvnet", "guided_grad_cam"}

ATTENTION = {"attention", "attention_rollout", "gradient_rollout", "attention_gradient", "attention_flow", "legrad"}
POSITIVE = ("deep_taylor", "excitation_backprop", "contrastive_excitation_backprop")  # activations, as ReLUs give
CHANNELS = {"activations": None, "deep_feature_factorization": 4}  # maps by channel at the layer: how many
ONE_RESOLUTION = set(NETS) - {"conv", "softmax", "binary"}

# What must be refused, with a word of the message; everything else must work.
REFUSED = {
    **{(m, "smooth"): "smooth_activations=True" for m in RECTIFYING},
    **{(m, net): "no attention" for m in ATTENTION for net in set(NETS) - {"tokens", "registers"}},
    **{("attn_lrp", net): "no attention" for net in set(NETS) - {"tokens", "registers"}},
    **{(m, net): "use attn_lrp" for m in POSITIVE for net in ("tokens", "registers")},
    **{("xrai", net): "use integrated_gradients" for net in ("signal", "volume")},
    **{("cam", net): "use grad_cam" for net in ("functional", "tokens", "registers", "dense")},
    **{("refine_cam", net): "none finer" for net in ONE_RESOLUTION},
    **{("smallest_flip", net): "smallest_flip: the model" for net in NETS},  # drawn weights always say the same class
}
PAIRS = [(m, n) for m in METHODS for n in NETS]
WORKING = [p for p in PAIRS if p not in REFUSED]


BLIND = {"centre", "constant"}  # controls that do not look at the image
# As above; the gradient at a layer that only average pooling and a linear layer follow looks at no image either.
UNMOVED = {("deconvnet", "signal"), ("internal_influence", "conv"), ("internal_influence", "signal")}
EMPTY = {"anchors"}  # where the class stays whatever is covered, no segment is needed
COALITIONS = {"rise", "kernel_shap", "lime", "sobol", "hsic"}  # of two samples nothing can be learned


def small(name: str, **more: Any) -> dict[str, Any]:
    """Few samples and steps, and nothing cut off that could hide a difference, for the methods that have them."""
    few = 40 if name in EMPTY else 8 if name in COALITIONS else 2
    return {
        k: v
        for k, v in {"samples": few, "evaluations": 20, "steps": 2, "relu": False, **more}.items()
        if k in METHODS[name].parameters
    }


def explain(net: nn.Module, x: Tensor, name: str, **more: Any) -> list[np.ndarray]:
    return [e.attribution for e in sightline.explain(net, x, name, 1, **small(name), **more)]


@cache
def expected(name: str, net: str) -> list[np.ndarray]:
    """The maps that everything else is compared with: the batch of three, in float64."""
    return explain(*make(net, torch.float64), name)


def close(found: list[np.ndarray], wanted: list[np.ndarray], tolerance: float = 1e-6) -> bool:
    return all(
        np.allclose(f, w, rtol=tolerance, atol=tolerance * np.abs(w).max()) for f, w in zip(found, wanted, strict=True)
    )


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))


def shape_of(spec: Method, model: sightline.Model, x: Tensor) -> tuple[int, ...]:
    if spec.at == "input":
        return tuple(x.shape[1:])
    if spec.at == "scores":
        return tuple(x.shape[2:])
    (default,) = [layer for layer in model.layers(x) if layer.default]
    if spec.name == "refine_cam":  # at the finest of several resolutions
        return tuple(x.shape[2:])
    channels = {"channels_first": 1}.get(default.layout.kind, -1)
    if "reduction" not in spec.parameters:
        return default.spatial
    return (CHANNELS.get(spec.name) or default.shape[channels], *default.spatial)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "net"), PAIRS)
def test_every_method_on_every_net(name, net, dtype):
    module, x = make(net, DTYPES[dtype])
    model = sightline.load(module)
    if (name, net) in REFUSED:
        with pytest.raises(RefusedError, match=REFUSED[name, net]):
            explain(model, x, name)
        return
    for e, wanted in zip(sightline.explain(model, x, name, 1, **small(name)), expected(name, net), strict=True):
        assert e.attribution.shape == shape_of(METHODS[name], model, x)
        assert e.attribution.dtype == np.float32
        assert np.isfinite(e.attribution).all()
        # Scores in bfloat16 are rounded so that covering a little may change none.
        assert e.attribution.any() or name in EMPTY or (dtype == "bfloat16" and METHODS[name].at == "scores")
        # Noise may cross a ReLU here and there.
        assert dtype != "float32" or name in EMPTY or cosine(e.attribution, wanted) > 0.999
        assert (e.method, e.target.index, e.precision) == (name, 1, dtype)
        assert (e.layer is not None) == ("layer" in METHODS[name].reads)
        assert e.at_input().shape == x.shape[2:] if name not in CHANNELS else True
        assert e.parameters.keys() == METHODS[name].parameters.keys()
        assert e.per_channel == ("reduction" in METHODS[name].parameters)


@pytest.mark.parametrize(("name", "net"), WORKING)
def test_a_batch_of_three_gives_what_two_and_one_give(name, net):
    assert close(explain(*make(net, torch.float64), name, batch_size=2), expected(name, net))


@pytest.mark.parametrize(("name", "net"), [p for p in WORKING if p[0] in SAMPLED])
def test_another_seed_is_another_map(name, net):
    module, x = make(net, torch.float64)
    other = explain(module, x, name, seed=1)
    alike = [np.array_equal(o, w) for o, w in zip(other, expected(name, net), strict=True)]
    assert alike == [(name, net) in SAME_FOR_ANY_IMAGE] * len(x)


@pytest.mark.parametrize(
    ("name", "net"), [p for p in WORKING if small(p[0]).keys() & {"samples", "steps", "evaluations"}]
)
def test_the_chunk_does_not_matter(name, net):
    module, x = make(net, torch.float64)
    assert close(explain(module, x, name, chunk=1), expected(name, net))


@pytest.mark.parametrize(("name", "net"), WORKING)
def test_the_seed_decides_and_not_frozen_weights_or_training_mode_which_stay(name, net):
    module, x = make(net, torch.float64)
    module.requires_grad_(False).train()
    state, given = {k: v.clone() for k, v in module.state_dict().items()}, x.clone()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(99)  # the global seed is not looked at
        found = explain(module, x, name, seed=0)
    assert all(np.array_equal(f, w) for f, w in zip(found, expected(name, net), strict=True))
    assert all(m.training for m in module.modules())
    assert not any(p.requires_grad for p in module.parameters())
    assert not any(m._forward_hooks or m._backward_hooks or m._forward_pre_hooks for m in module.modules())
    assert all(torch.equal(state[k], v) for k, v in module.state_dict().items())
    assert torch.equal(given, x)


@pytest.mark.parametrize(("name", "net"), [p for p in WORKING if p[1] in ("conv", "tokens", "signal")])
def test_the_mean_over_noise_of_no_noise_is_the_plain_map(name, net):
    module, x = make(net, torch.float64)
    assert close(explain(module, x, name, smooth_samples=2, smooth_noise=0.0, chunk=1), expected(name, net))
    noisy = explain(module, x, name, smooth_samples=2, smooth_noise=0.3)
    alike = [np.array_equal(n, w) for n, w in zip(noisy, expected(name, net), strict=True)]
    assert alike == [(name, net) in UNMOVED or name in BLIND | EMPTY] * len(x)


@pytest.mark.slow
@pytest.mark.parametrize("net", ["residual"])
def test_every_method_on_a_compiled_net(net):
    module, x = make(net, torch.float64)
    compiled = torch.compile(module, backend="eager")
    with torch.no_grad():
        compiled(x)
    wrong = [m for m, n in WORKING if n == net and not close(explain(compiled, x, m), expected(m, n))]
    assert not wrong


@pytest.mark.parametrize("name", METHODS)
def test_a_net_without_positions_is_explained_at_its_input_or_refused(name):
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.ReLU(), nn.Linear(8, 3))
    if "layer" in METHODS[name].reads:
        with pytest.raises(LayerError, match="use a method that reads the input"):
            explain(net, x, name)
    elif name in ATTENTION | {"attn_lrp"}:
        with pytest.raises(RefusedError, match="no attention"):
            explain(net, x, name)
    elif name == "smallest_flip":
        with pytest.raises(RefusedError, match="smallest_flip: the model"):
            explain(net, x, name)
    else:
        wanted = (3, 8, 8) if METHODS[name].at == "input" else (8, 8)
        assert all(m.shape == wanted for m in explain(net, x, name))


# --- the register ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_described(name):
    spec = METHODS[name]
    assert spec.name == name == spec.compute.__name__
    assert re.fullmatch(r"[A-Z].{20,140}\.", spec.summary), spec.summary
    assert re.search(r"\b(19|20)\d\d\b", spec.cite), spec.cite
    assert spec.family in ("cam", "gradient", "perturbation", "relevance", "attention", "control", "optimization")
    assert set(spec.reads) <= {"input", "layer", "scores"}
    assert spec.at in (*spec.reads, "scores") or spec.family == "attention"  # read from the graph, on its own grid


@pytest.mark.parametrize("name", METHODS)
def test_the_signature_is_the_schema(name):
    spec = METHODS[name]
    first, *others = inspect.signature(spec.compute).parameters.values()
    assert first.name == "rec"
    assert [p.name for p in others] == [p for p in spec.parameters if p in spec.own]
    for p in others:
        assert p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        assert p.default == spec.parameters[p.name].default is not inspect.Parameter.empty
    for p in spec.parameters.values():
        assert isinstance(p.default, (bool, int, float, str))
        assert not p.choices or p.default in p.choices
        assert p.types
        assert all(bound is None or math.isfinite(bound) for bound in (p.low, p.high))
        assert p.low is None or p.low <= p.default
    assert resolve_parameters([spec], {})[name] == {p.name: p.default for p in spec.parameters.values()}


@pytest.mark.parametrize("name", METHODS)
def test_defaults_given_as_text_are_the_defaults(name):
    # As the command line gives them.
    spec = METHODS[name]
    given = {
        p.name: str(p.default).lower() if isinstance(p.default, bool) else str(p.default)
        for p in spec.parameters.values()
    }
    assert resolve_parameters([spec], given) == resolve_parameters([spec], {})


SPELLINGS = {
    "grad_cam": ("GradCAM", "grad-cam", "Grad CAM", " grad_cam ", "GRADCAM"),
    "grad_cam_plus_plus": ("GradCAM++", "gradcam++", "Grad-CAM++", "GradCAMPlusPlus", "GradCamPP", "grad_cam_pp"),
    "smooth_grad_cam_plus_plus": ("SmoothGradCAM++", "SmoothGradCAMpp"),
    "xgrad_cam": ("XGradCAM", "xgrad-cam"),
    "layer_cam": ("LayerCAM", "Layer-CAM"),
    "hires_cam": ("HiResCAM",),
    "eigen_cam": ("EigenCAM",),
    "eigen_grad_cam": ("EigenGradCAM",),
    "seg_eigen_cam": ("SegEigenCAM", "Seg-Eigen-CAM"),
    "kpca_cam": ("KPCA-CAM", "KPCACAM"),
    "fem": ("FEM",),
    "finer_cam": ("FinerCAM", "Finer-CAM"),
    "shapley_cam": ("ShapleyCAM", "Shapley-CAM"),
    "refine_cam": ("RefineCAM",),
    "opti_cam": ("OptiCAM", "Opti-CAM"),
    "deep_feature_factorization": ("DeepFeatureFactorization", "DFF", "deep_feature_factorisation"),
    "elementwise_grad_cam": ("GradCAMElementWise", "ElementwiseGradCAM"),
    "cam": ("CAM",),
    "gradient": ("Saliency", "gradients", "VanillaGradients", "vanilla_gradient"),
    "input_x_gradient": ("InputXGradient", "GradientXInput", "Gradients Inputs"),
    "integrated_gradients": ("IntegratedGradients", "integrated-gradients", "IG"),
    "guided_backprop": ("GuidedBackprop", "Guided Backpropagation", "GBP"),
    "deconvnet": ("Deconvolution", "DeconvNet"),
    "guided_grad_cam": ("GuidedGradCAM", "Guided Grad-CAM"),
    "smooth_grad": ("SmoothGrad",),
    "square_grad": ("SquareGrad",),
    "var_grad": ("VarGrad",),
    "expected_gradients": ("ExpectedGradients", "GradientShap"),
    "activations": ("ExtractActivations", "Activations"),
    "occlusion": ("Occlusion",),
    "feature_ablation": ("FeatureAblation",),
    "rise": ("RISE",),
    "shapley_sampling": ("ShapleySampling", "ShapleyValueSampling"),
    "kernel_shap": ("KernelSHAP", "KernelShap"),
    "lime": ("LIME",),
    "sobol": ("Sobol",),
    "hsic": ("HSIC",),
    "meaningful_perturbation": ("MeaningfulPerturbation", "meaningful-perturbations"),
    "extremal_perturbation": ("ExtremalPerturbation", "ExtremalPerturbations"),
    "smallest_flip": ("SmallestFlip", "minimal flip"),
    "score_cam": ("ScoreCAM", "Score-CAM"),
    "ss_cam": ("SS-CAM", "SSCAM"),
    "is_cam": ("IS-CAM", "ISCAM"),
    "ablation_cam": ("AblationCAM", "Ablation-CAM"),
    "sise": ("SISE",),
    "ada_sise": ("Ada-SISE", "AdaSISE"),
    "owen": ("Owen", "PartitionSHAP", "PartitionExplainer"),
    "anchors": ("Anchors", "Anchor"),
    "attention": ("Attention",),
    "attention_rollout": ("Rollout", "AttentionRollout"),
    "gradient_rollout": ("GradientRollout",),
    "attention_gradient": ("Grad-SAM", "AttentionGradient"),
    "attention_flow": ("AttentionFlow",),
    "legrad": ("LeGrad",),
    "random": ("Random",),
    "edges": ("Edges", "Sobel"),
    "centre": ("Centre", "center"),
    "constant": ("Constant",),
    "deep_lift": ("DeepLIFT", "DeepLift", "deep-lift"),
    "deep_lift_shap": ("DeepLiftShap", "DeepLIFT-SHAP"),
    "lrp": ("LRP",),
    "deep_taylor": ("DeepTaylor", "Deep Taylor"),
    "attn_lrp": ("AttnLRP", "attn-lrp"),
    "excitation_backprop": ("ExcitationBackprop", "Excitation Backprop"),
    "contrastive_excitation_backprop": ("ContrastiveExcitationBackprop",),
    "blur_ig": ("BlurIG", "Blur IG", "BlurIntegratedGradients"),
    "guided_ig": ("GuidedIG", "Guided-IG", "GuidedIntegratedGradients", "GIG"),
    "xrai": ("XRAI",),
    "full_grad": ("FullGrad", "Full-Gradients"),
    "conductance": ("Conductance", "LayerConductance"),
    "internal_influence": ("InternalInfluence",),
    "layer_gradient_x_activation": ("LayerGradientXActivation", "GradientXActivation"),
}


@pytest.mark.parametrize(("name", "spelling"), [(n, s) for n, spelled in SPELLINGS.items() for s in (n, *spelled)])
def test_usual_spellings_are_found(name, spelling):
    assert find_method(spelling).name == name


def test_every_method_is_among_the_spellings():
    assert set(SPELLINGS) == set(METHODS)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("grad_camm", "Did you mean grad_cam"),
        ("GradientCAM", "Did you mean"),
        ("", "See: sightline methods"),
        ("zzz", "See: sightline methods"),
    ],
)
def test_unknown_methods_are_refused_with_close_ones(name, hint):
    with pytest.raises(ParameterError, match=hint):
        find_method(name)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ("gradient", ["gradient"]),
        ("gradient, GradCAM", ["gradient", "grad_cam"]),
        (["gradient", "saliency", "gradients"], ["gradient"]),
        ("grad_cam,,", ["grad_cam"]),
    ],
)
def test_lists_of_methods_name_each_once(names, found):
    assert [m.name for m in find_methods(names)] == found


@pytest.mark.parametrize("names", ["", " , ", []])
def test_no_method_is_refused(names):
    with pytest.raises(ParameterError, match="no method was given"):
        find_methods(names)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("gradient", {"steps": 3}, "gradient has no parameter 'steps'"),
        ("integrated_gradients", {"stepps": 3}, "Did you mean steps"),
        ("integrated_gradients", {"steps": 0}, "steps=0: wanted a whole number of at least 1"),
        ("integrated_gradients", {"steps": 2.5}, "steps=2.5: wanted a whole number"),
        ("integrated_gradients", {"steps": "many"}, "steps='many'"),
        ("integrated_gradients", {"steps": True}, "steps=True"),
        ("integrated_gradients", {"steps": None}, "steps=None"),
        ("integrated_gradients", {"steps": torch.ones(2)}, "an array came"),
        ("integrated_gradients", {"rule": "simpson"}, "gauss-legendre, trapezoid, middle, left, right, endpoints"),
        ("integrated_gradients", {"baseline": "blakc"}, "Did you mean black"),
        ("integrated_gradients", {"multiply": "maybe"}, "true or false"),
        ("smooth_grad", {"noise": -0.1}, "noise=-0.1: wanted a number of at least 0"),
        ("smooth_grad", {"noise": float("nan")}, "noise=nan"),
        ("smooth_grad", {"noise": float("inf")}, "noise=inf"),
        ("smooth_grad", {"scale": "big"}, "relative, absolute"),
        ("grad_cam", {"relu": 2}, "relu=2"),
        ("grad_cam", {"smooth_samples": -1}, "at least 0"),
        ("grad_cam", {"gradient.reduction": "sum"}, "gradient is not among the methods"),
        ("grad_cam", {"grad_cam.stepps": 1}, "grad_cam has no parameter"),
        ("grad_cam", {"grad_kam.relu": True}, "Did you mean grad_cam"),
    ],
)
def test_wrong_parameters_are_refused(name, given, message):
    with pytest.raises(ParameterError, match=re.escape(message)):
        resolve_parameters([METHODS[name]], given)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"steps": "7"}, 7), ({"steps": 7.0}, 7), ({"steps": np.int64(7)}, 7), ({"integrated_gradients.steps": 7}, 7),
        ({"IntegratedGradients.steps": 7}, 7), ({"steps": 3, "ig.steps": 7}, 7),
    ],
    ids=str,
)  # fmt: skip
def test_parameters_come_in_many_forms(given, found):
    assert resolve_parameters([METHODS["integrated_gradients"]], given)["integrated_gradients"]["steps"] == found


def test_a_parameter_goes_to_every_method_that_has_it_unless_it_is_addressed():
    resolved = resolve_parameters(
        find_methods("smooth_grad,var_grad,grad_cam"), {"samples": 3, "var_grad.samples": 4, "reduction": "l2"}
    )
    assert resolved["smooth_grad"]["samples"] == 3
    assert resolved["var_grad"]["samples"] == 4
    assert {name: values.get("reduction") for name, values in resolved.items()} == {
        "smooth_grad": "l2", "var_grad": "l2", "grad_cam": None,
    }  # fmt: skip


def test_a_method_of_ones_own_is_like_the_others(monkeypatch):
    monkeypatch.setattr("sightline.methods.registry.METHODS", dict(METHODS))

    @method(family="gradient", cite="nobody 2026", reads=("input", "layer"), at="input")
    def sign_of_gradient(rec: Recording, power: int = 1) -> Tensor:
        """Say only in which direction the score changes."""
        return rec.gradient("input").sign() * power

    assert "sign_of_gradient" not in METHODS
    net, x = make("conv")
    found = sightline.explain(net, x, ["SignOfGradient", "gradient"], 1, power="2")
    signs = [e for e in found if e.method == "sign_of_gradient"]
    plain = [e for e in found if e.method == "gradient"]
    assert all(np.array_equal(s.attribution, 2 * np.sign(p.attribution)) for s, p in zip(signs, plain, strict=True))
