"""The layer that a CAM reads by default, the layers by name, and where the positions of an activation lie."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sightline
from nets import (
    NETS,
    CheckpointNet,
    ConvNet,
    LinearNet,
    NoGradTrunkNet,
    TokenNet,
    calibrated,
    drawn,
    make,
)
from sightline.errors import LayerError
from sightline.models.layers import trace_layers
from sightline.models.layouts import Layout, channels_last_hint, find_layout, from_spatial, to_spatial
from sightline.models.zoo import build, import_torchvision
from sightline.recording import Options, record

# name: (input size, default layer, its grid)
FAMILIES = {
    "resnet18": (64, "layer4", (2, 2)),
    "densenet121": (64, "features", (2, 2)),
    "mobilenet_v2": (64, "features", (2, 2)),
    "mobilenet_v3_small": (64, "features", (2, 2)),
    "efficientnet_b0": (64, "features", (2, 2)),
    "convnext_tiny": (64, "features", (2, 2)),
    "vgg11": (64, "features.19", (4, 4)),
    "alexnet": (96, "features.11", (5, 5)),
    "googlenet": (64, "inception5b", (2, 2)),
    "inception_v3": (107, "Mixed_7c", (2, 2)),
    "squeezenet1_1": (96, "classifier.2", (5, 5)),
    "shufflenet_v2_x0_5": (64, "conv5", (2, 2)),
    "mnasnet0_5": (64, "layers", (2, 2)),
    "regnet_y_400mf": (64, "trunk_output", (2, 2)),
    "swin_t": (64, "permute", (2, 2)),
    "swin_v2_t": (64, "permute", (2, 2)),
    "maxvit_t": (224, "blocks.3", (7, 7)),
}
HEAVY = {"maxvit_t", "vgg11", "swin_t", "swin_v2_t"}


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if n in HEAVY else []) for n in FAMILIES])
def test_default_layer_of_torchvision_families(name):
    size, layer, grid = FAMILIES[name]
    x = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    chosen = [found for found in trace_layers(build(name), x) if found.default]
    assert [(found.name, found.spatial) for found in chosen] == [(layer, grid)]


@pytest.mark.slow
def test_default_layer_of_a_real_vision_transformer():
    # Its head is zero as it comes: there is no gradient to follow.
    net, x = build("vit_b_16"), torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    assert not net.heads.head.weight.any()
    for head in ("zero", "drawn"):
        (found,) = [layer for layer in trace_layers(net, x) if layer.default]
        assert found.name == "encoder.layers.encoder_layer_11.ln_1", head
        assert found.layout == Layout("tokens", (14, 14), 1)
        nn.init.normal_(net.heads.head.weight, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("head", ["zero", "drawn"])
def test_default_layer_of_a_small_vision_transformer(head):
    import_torchvision()
    from torchvision.models import VisionTransformer

    net = drawn(
        lambda: VisionTransformer(
            image_size=32, patch_size=8, num_layers=3, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=5
        )
    )
    if head == "drawn":
        nn.init.normal_(net.heads.head.weight, generator=torch.Generator().manual_seed(0))
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    model = sightline.load(net)
    assert model.default_layer(x) == "encoder.layers.encoder_layer_2.ln_1"
    found = sightline.explain(model, x, "grad_cam", 1)[0]
    assert found.attribution.shape == (4, 4)
    assert found.attribution.any() == (head == "drawn")


DEFAULTS = {
    "conv": ("features", Layout("channels_first", (8, 8))),
    "inplace": ("relu@2", Layout("channels_first", (16, 16))),
    "functional": ("c", Layout("channels_first", (16, 16))),
    "residual": ("relu@3", Layout("channels_first", (16, 16))),
    "channels_last": ("act", Layout("channels_last", (8, 8))),
    "tokens": ("blocks.1.norm1", Layout("tokens", (8, 8), 1)),
    "registers": ("blocks.1.norm1", Layout("tokens", (8, 12), 5)),
    "signal": ("conv", Layout("channels_first", (24,))),
    "volume": ("conv", Layout("channels_first", (6, 8, 8))),
    "softmax": ("body.features", Layout("channels_first", (8, 8))),
    "binary": ("body.features", Layout("channels_first", (8, 8))),
    "dense": ("body", Layout("channels_first", (16, 16))),
    "smooth": ("body", Layout("channels_first", (16, 16))),
}


@pytest.mark.parametrize("name", NETS)
def test_default_layer_of_tiny_nets(name):
    net, x = make(name)
    (found,) = [layer for layer in trace_layers(net, x) if layer.default]
    assert (found.name, found.layout) == DEFAULTS[name]
    cam = sightline.explain(net, x[:1], "grad_cam", 1)[0]
    assert cam.layer == DEFAULTS[name][0]
    assert cam.attribution.shape == DEFAULTS[name][1].grid


def test_the_default_does_not_depend_on_the_weights_or_the_mode():
    names = set()
    for seed in range(5):
        net = drawn(ConvNet, seed).train(seed % 2 == 0)
        names |= {layer.name for layer in trace_layers(net, torch.randn(2, 3, 16, 16)) if layer.default}
    assert names == {"features"}


class Pooled(nn.Module):
    """After the last map come dropout, pooling that keeps positions, and flattening."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.drop, self.pool = nn.Conv2d(3, 4, 3), nn.Dropout2d(0.5), nn.AvgPool2d(2)
        self.flat, self.head = nn.Flatten(), nn.Linear(4 * 3 * 3, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.flat(self.pool(self.drop(self.conv(x)))))


def test_pooling_dropout_and_flattening_are_no_default():
    layers = trace_layers(drawn(Pooled), torch.randn(1, 3, 8, 8))
    assert [layer.name for layer in layers] == ["conv", "drop", "pool", "flat", "head"]
    assert [layer.name for layer in layers if layer.default] == ["conv"]


def test_layers_come_in_the_order_in_which_they_run():
    net, x = make("inplace")
    layers = trace_layers(net, x)
    assert [(layer.name, layer.kind) for layer in layers] == [
        ("conv", "Conv2d"), ("relu", "ReLU"), ("conv2", "Conv2d"), ("relu@2", "ReLU"), ("head", "Linear"),
    ]  # fmt: skip
    assert [layer.spatial for layer in layers] == [(16, 16)] * 4 + [None]
    assert layers[0].shape == (1, 6, 16, 16)


def test_layers_are_traced_once_for_each_input_shape():
    net, x = make("conv")
    calls = []
    net.register_forward_pre_hook(lambda m, i: calls.append(i[0].shape))
    model = sightline.load(net)
    for size in (16, 16, 12, 16, 12):
        model.layers(x[..., :size, :size])
    assert calls == [(1, 3, 16, 16), (1, 3, 12, 12)]


# --- layouts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "spatial", "expected"),
    [
        # channels first and last
        ((1, 512, 7, 7), (224, 224), Layout("channels_first", (7, 7))),
        ((1, 7, 7, 768), (224, 224), Layout("channels_last", (7, 7))),
        ((2, 512, 7, 10), (224, 320), Layout("channels_first", (7, 10))),
        ((2, 7, 10, 512), (224, 320), Layout("channels_last", (7, 10))),
        ((1, 7, 7, 7), (224, 224), Layout("channels_first", (7, 7))),  # ambiguous
        ((1, 3, 224, 224), (224, 224), Layout("channels_first", (224, 224))),
        ((1, 8, 12, 3), (32, 48), Layout("channels_last", (8, 12))),
        ((1, 64, 226, 226), (224, 224), Layout("channels_first", (226, 226))),  # a border was padded
        ((1, 512, 1, 1), (224, 224), Layout("channels_first", (1, 1))),
        # tokens
        ((1, 196, 768), (224, 224), Layout("tokens", (14, 14), 0)),
        ((1, 197, 768), (224, 224), Layout("tokens", (14, 14), 1)),
        ((1, 198, 768), (224, 224), Layout("tokens", (14, 14), 2)),
        ((1, 201, 768), (224, 224), Layout("tokens", (14, 14), 5)),
        ((1, 261, 384), (224, 224), Layout("tokens", (16, 16), 5)),  # DINOv2 with registers
        ((1, 577, 768), (384, 384), Layout("tokens", (24, 24), 1)),
        ((1, 325, 768), (256, 256), Layout("tokens", (18, 18), 1)),  # patches of 14 leave a border
        ((1, 96, 12), (32, 48), Layout("tokens", (8, 12), 0)),
        ((1, 101, 12), (32, 48), Layout("tokens", (8, 12), 5)),
        ((1, 252, 12), (230, 300), Layout("tokens", (14, 18), 0)),
        ((1, 768, 196), (224, 224), Layout("tokens_last", (14, 14), 0)),
        ((1, 65, 16), (8, 8), Layout("tokens", (8, 8), 1)),  # a token for each pixel
        ((1, 8, 64), (8, 8, 8), Layout("tokens", (2, 2, 2), 0)),
        # signals
        ((1, 64, 24), (24,), Layout("channels_first", (24,))),
        ((1, 8, 6), (24,), Layout("channels_first", (6,))),  # ambiguous
        ((1, 24, 300), (24,), Layout("channels_last", (24,))),
        # volumes
        ((1, 64, 3, 4, 4), (6, 8, 8), Layout("channels_first", (3, 4, 4))),
        ((1, 3, 4, 4, 64), (6, 8, 8), Layout("channels_last", (3, 4, 4))),
        # no positions
        ((1, 512), (224, 224), None),
        ((1, 12, 60), (224, 224), None),  # heads, not eight prefix tokens and a grid of 2 x 2
        ((1, 2, 768), (224, 224), None),
        ((1, 5, 3, 7, 7), (224, 224), None),
        ((1, 512), (24,), None),
    ],
    ids=str,
)
def test_layouts(shape, spatial, expected):
    assert find_layout(shape, spatial) == expected


@pytest.mark.parametrize(
    ("shape", "spatial", "expected"),
    [
        ((1, 7, 7, 7), (224, 224), Layout("channels_last", (7, 7))),
        ((1, 4, 6, 9), (64, 96), Layout("channels_last", (4, 6))),
        ((1, 24, 12), (24,), Layout("channels_last", (24,))),
        ((1, 512, 7, 7), (224, 224), Layout("channels_first", (7, 7))),  # the shape says otherwise
        ((1, 3, 4, 4, 4), (6, 8, 8), Layout("channels_last", (3, 4, 4))),
    ],
    ids=str,
)
def test_the_layers_type_decides_where_the_shape_does_not(shape, spatial, expected):
    assert find_layout(shape, spatial, channels_last=True) == expected


class FirstNorm(nn.LayerNorm):
    """Channels first, as ConvNeXt's is, though it is a layer norm."""


@pytest.mark.parametrize(
    ("module", "last"),
    [
        (nn.Linear(3, 3), True), (nn.LayerNorm(3), True), (nn.LayerNorm((3, 3)), False), (FirstNorm(3), False),
        (nn.Conv2d(3, 3, 1), False), (nn.GELU(), False), (None, False),
    ],
    ids=lambda v: type(v).__name__,
)  # fmt: skip
def test_which_types_put_channels_last(module, last):
    assert channels_last_hint(module) is last


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((2, 5, 4, 6), Layout("channels_first", (4, 6))),
        ((2, 4, 6, 5), Layout("channels_last", (4, 6))),
        ((2, 7, 5), Layout("channels_last", (7,))),
        ((2, 3, 4, 6, 5), Layout("channels_last", (3, 4, 6))),
        *(((2, 24 + p, 5), Layout("tokens", (4, 6), p)) for p in (0, 1, 2, 5)),
        *(((2, 5, 24 + p), Layout("tokens_last", (4, 6), p)) for p in (0, 1)),
    ],
    ids=str,
)
def test_there_and_back(shape, layout):
    values = torch.randn(shape)
    there = to_spatial(values, layout)
    assert there.shape == (2, 5, *layout.grid)
    assert torch.equal(from_spatial(there, layout, values), values)
    changed = from_spatial(there + 1, layout, values)
    assert torch.equal(to_spatial(changed, layout), there + 1)
    if layout.prefix:
        tokens = (values, changed) if layout.kind == "tokens" else (values.mT, changed.mT)
        assert torch.equal(tokens[0][:, : layout.prefix], tokens[1][:, : layout.prefix])


def test_positions_keep_their_place():
    # One token is hot: the map is hot at that patch, row by row.
    for prefix in (0, 1, 2, 5):
        tokens = torch.zeros(1, 24 + prefix, 5)
        tokens[0, prefix + 6 * 2 + 3] = 1
        layout = find_layout(tokens.shape, (16, 24))
        assert layout == Layout("tokens", (4, 6), prefix)
        assert to_spatial(tokens, layout)[0, 0].nonzero().tolist() == [[2, 3]]


@pytest.mark.parametrize("prefix", [1, 2, 5])
def test_cams_of_token_nets_look_at_patches(prefix):
    # Only one patch has anything in it; what the others hold is alike.
    net = drawn(lambda: TokenNet(prefix))
    nn.init.zeros_(net.patch.bias)
    x = torch.zeros(1, 3, 16, 24)
    x[:, :, 8:12, 12:16] = torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(0))
    cam = sightline.explain(net, x, "hires_cam", 0, layer="blocks.0.norm1", relu=False)[0].attribution
    assert cam.shape == (4, 6)
    others = np.delete(cam.reshape(-1), 2 * 6 + 3)
    assert np.ptp(others) < 1e-6
    assert abs(cam[2, 3] - others[0]) > 1e-4


class LastSignalNet(nn.Module):
    """(N, L, C) inside, with as few positions as channels: only the layer's type tells."""

    def __init__(self) -> None:
        super().__init__()
        self.lift, self.mix, self.head = nn.Linear(2, 24), nn.Linear(24, 24), nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.mix(self.lift(x.mT)).relu().mean(1))


def test_signals_with_channels_last():
    net = drawn(LastSignalNet)
    x = torch.randn(2, 2, 24, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = net.mix(net.lift(x.mT)).mT
    with record(sightline.load(net), x, Options(layers=("mix",)), 1) as rec:
        assert torch.equal(rec.activation("mix"), expected)
    unit = sightline.explain(net, x, "gradient", sightline.targets.unit("mix", 7))
    assert [e.score for e in unit] == pytest.approx(expected[:, 7].mean(1).tolist())


# --- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("pool", r"'pool' gives \(1, 8, 1, 1\), which has no spatial extent"),
        ("head", r"'head' gives \(1, 5\), which has no spatial extent"),
        ("feature.5", r"no layer 'feature\.5'\. Did you mean features\.5"),
        ("Head", "Did you mean head"),
        ("nothing_like_it", r"no layer 'nothing_like_it'\. See: sightline layers"),
        ("", "no layer ''"),
        ("features.2@2", r"layer 'features\.2' has no call number 2"),
        ("features.2@0", r"has no call number 0"),
    ],
)
def test_layers_that_cannot_be_read(layer, message):
    net, x = make("conv", images=1)
    with pytest.raises(LayerError, match=message):
        sightline.explain(net, x, "grad_cam", 1, layer=layer)


def test_a_call_that_never_happens_is_named_and_one_that_does_is_read():
    net, x = make("inplace")
    with pytest.raises(LayerError, match="layer 'relu' has no call number 9 "):
        sightline.explain(net, x, "grad_cam", 1, layer="relu@9")
    first, second = (sightline.explain(net, x, "grad_cam", 1, layer=f"relu@{i}")[0].attribution for i in (1, 2))
    assert not np.array_equal(first, second)
    assert np.array_equal(first, sightline.explain(net, x, "grad_cam", 1, layer="relu")[0].attribution)


def test_a_layer_that_never_runs_is_named():
    net, x = make("conv")
    net.spare = nn.Conv2d(3, 3, 1)
    with pytest.raises(LayerError, match="layer 'spare' has no call in"):
        sightline.explain(net, x, "grad_cam", 1, layer="spare")
    assert "spare" not in [layer.name for layer in trace_layers(net, x)]


def call_aside(net: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    net.aside(inputs[0])


def test_a_layer_that_the_score_does_not_depend_on_is_refused():
    net = drawn(ConvNet)
    net.aside = nn.Conv2d(3, 4, 3)
    net.register_forward_pre_hook(call_aside)
    with pytest.raises(sightline.SightlineError, match="do not depend on"):
        sightline.explain(net, torch.randn(1, 3, 16, 16), "grad_cam", 1, layer="aside")


@pytest.mark.parametrize("method", ["grad_cam", "guided_grad_cam"])
def test_a_net_without_positions_has_no_default_layer(method):
    net = drawn(LinearNet)
    with pytest.raises(LayerError, match="no layer with positions"):
        sightline.explain(net, torch.randn(1, 3, 8, 8), method, 1)


@pytest.mark.parametrize("build_net", [NoGradTrunkNet, lambda: CheckpointNet(reentrant=True)])
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_where_no_gradient_flows_there_is_no_default_layer(build_net):
    with pytest.raises(LayerError, match="no layer with positions that still carry gradient"):
        sightline.explain(drawn(build_net), torch.randn(1, 3, 8, 8), "grad_cam", 1)


def script(net: nn.Module) -> torch.jit.ScriptModule:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(net)


@pytest.mark.parametrize("layer", [None, "features"])
@pytest.mark.parametrize("method", ["grad_cam", "guided_grad_cam", "activations"])
def test_torchscript_has_no_layers_to_read(layer, method):
    net, x = make("conv")
    with pytest.raises(LayerError, match="TorchScript runs without hooks"):
        sightline.explain(script(net), x, method, 1, layer=layer)


class PartlyScripted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.net = nn.Conv2d(3, 3, 1), script(drawn(ConvNet))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self.stem(x))


def test_around_a_scripted_part_the_layers_are_read():
    net, x = PartlyScripted().eval(), make("conv")[1]
    assert sightline.explain(net, x, "grad_cam", 1)[0].layer == "stem"
    with pytest.raises(LayerError, match="TorchScript runs without hooks"):
        sightline.explain(net, x, "grad_cam", 1, layer="net")


def test_a_batch_norm_net_keeps_its_statistics_while_it_is_traced():
    net, x = calibrated("mobilenet_v3_small", 64)
    before = {k: v.clone() for k, v in net.train().state_dict().items()}
    trace_layers(net, x)
    assert net.training
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


class InTuples(nn.Module):
    """A net whose blocks return their map in a tuple, as many of transformers' do."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x):
            return x + self.inner(x), None

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.blocks = nn.Conv2d(3, 4, 4, 4), nn.ModuleList([self.Block(), self.Block()])
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = self.patch(x)
        for block in self.blocks:
            x, _ = block(x)
        return self.head(x.mean((2, 3)))


def test_a_block_that_returns_its_map_in_a_tuple_is_a_layer_and_the_default():
    torch.manual_seed(0)
    net, x = InTuples().eval(), torch.randn(2, 3, 16, 16)
    assert sightline.load(net).default_layer(x) == "blocks.1"
    kept = {}
    handle = net.blocks[1].register_forward_hook(lambda _, __, output: kept.update(a=output[0]))
    scores = net(x)[:, 1]
    handle.remove()
    (gradient,) = torch.autograd.grad(scores.sum(), [kept["a"]])
    wanted = (gradient.mean((2, 3), keepdim=True) * kept["a"]).sum(1).clamp(min=0).detach().numpy()
    found = np.stack([e.attribution for e in sightline.explain(net, x, "grad_cam", 1)])
    assert np.allclose(found, wanted, atol=1e-6)
