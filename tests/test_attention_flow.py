"""Attention flow on graphs small enough to be solved by hand, and LeGrad against autograd on a net written by hand."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sightline
from nets import TokenNet, drawn, make
from sightline.errors import RefusedError
from sightline.methods.attention_flow import _SCALE, capacities
from sightline.models import zoo

X = torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))


def maps(net: nn.Module, method: str, x: Tensor = X, target: Any = 1, **parameters: Any) -> np.ndarray:
    return np.stack([e.attribution for e in sightline.explain(net, x, method, target, **parameters)])


# --- flow -----------------------------------------------------------------------------------------------------------


def flow(blocks: np.ndarray, start: np.ndarray, token: int) -> float:
    from scipy.sparse.csgraph import maximum_flow

    graph = capacities(blocks, start)
    return float(maximum_flow(graph, graph.shape[0] - 1, token).flow_value / _SCALE)


def smallest_cut(blocks: np.ndarray, start: np.ndarray, token: int) -> float:
    """Return the least capacity of all cuts between the source and a token, by trying every one."""
    depth, tokens, _ = blocks.shape
    nodes = [(level, i) for level in range(depth + 1) for i in range(tokens) if (level, i) != (0, token)]
    least = np.inf
    for side in itertools.product((False, True), repeat=len(nodes)):
        above = dict(zip(nodes, side, strict=True)) | {(0, token): False}
        cut = sum(start[i] for i in range(tokens) if not above[depth, i])
        cut += sum(
            blocks[level, i, j]
            for level, i, j in np.ndindex(blocks.shape)
            if above[level + 1, i] and not above[level, j]
        )
        least = min(least, cut)
    return float(least)


def test_two_blocks_by_hand():
    # The class token 0 gives 1/2 each to itself and to token 1; token 1 passes 1/4 to token 2, token 0 passes 1/8.
    top = np.array([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    bottom = np.array([[0.875, 0.0, 0.125], [0.0, 0.75, 0.25], [0.0, 0.0, 1.0]])
    blocks, start = np.stack([bottom, top]), np.array([1.0, 0.0, 0.0])
    assert [flow(blocks, start, j) for j in range(3)] == [0.5, 0.5, 0.375]


@pytest.mark.parametrize("seed", range(6))
def test_the_flow_is_the_smallest_cut(seed):
    drawn_blocks = np.random.default_rng(seed).dirichlet(np.full(3, 0.3), size=(2, 3))
    start = np.eye(3)[0] if seed % 2 else np.full(3, 1 / 3)
    for token in range(3):
        assert flow(drawn_blocks, start, token) == pytest.approx(smallest_cut(drawn_blocks, start, token), abs=1e-7)


@pytest.mark.parametrize("prefix", [0, 1])
def test_the_map_is_the_flow_through_attention_with_half_of_each_residual(prefix):
    net = drawn(lambda: TokenNet(max(prefix, 1)))
    net.prefix = nn.Parameter(net.prefix[:, :prefix])
    found = maps(net, "attention_flow", X[:, :, :8, :12])
    assert found.shape == (2, 2, 3)
    for one, image in zip(found, X[:, :, :8, :12], strict=True):
        blocks = 0.5 * weights(net, image[None]) + 0.5 * np.eye(6 + prefix)
        start = np.eye(7)[0] if prefix else np.full(6, 1 / 6)
        wanted = [flow(blocks, start, prefix + j) for j in range(6)]
        assert np.allclose(one.flatten(), wanted, atol=1e-6)
        assert 0 < one.max() <= 1 + 1e-6


def weights(net: nn.Module, x: Tensor) -> np.ndarray:
    """Return what TokenNet's blocks attend to, (2, T, T), computed again from their inputs."""
    found = []
    hooks = [b.qkv.register_forward_hook(lambda m, a, o: found.append(o)) for b in net.blocks]
    with torch.no_grad():
        net(x)
    for hook in hooks:
        hook.remove()
    parts = [o[0].chunk(3, -1)[:2] for o in found]
    return np.stack([torch.softmax(q @ k.T / q.shape[-1] ** 0.5, -1).numpy() for q, k in parts])


def test_each_token_is_a_step_of_the_progress():
    ticks: list[int] = []
    net, _ = make("tokens")
    model = sightline.load(net)
    list(sightline.engine.explanations(model, X[:1, :, :8, :12], "attention_flow", 1, tick=ticks.append))
    assert ticks == [1] * 6


# --- LeGrad ---------------------------------------------------------------------------------------------------------


class Written(nn.Module):
    """A transformer whose attention can be differentiated by name, with the class token or the mean of all read."""

    def __init__(self, read: str) -> None:
        super().__init__()
        self.read, self.patch, self.first = read, nn.Conv2d(3, 16, 8, 8), nn.Parameter(torch.randn(1, 1, 16))
        self.blocks = nn.ModuleList([HandBlock() for _ in range(3)])
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 4)

    def end(self, tokens: Tensor) -> Tensor:
        pooled = tokens[:, 0] if self.read == "class" else tokens.mean(1)
        return self.head(self.norm(pooled))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat((self.first.expand(len(x), -1, -1), self.patch(x).flatten(2).transpose(1, 2)), 1)
        for block in self.blocks:
            x = block(x)
        return self.end(x)


class HandBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.qkv, self.out = nn.LayerNorm(16), nn.Linear(16, 48), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).unflatten(2, (3, 4, 4)).permute(2, 0, 3, 1, 4)
        self.seen = torch.softmax(q @ k.mT / 2, -1)
        self.given = x + self.out((self.seen @ v).transpose(1, 2).flatten(2))
        return self.given


@pytest.mark.parametrize("read", ["class", "mean"])
@pytest.mark.parametrize("last", [0, 1, 2, 9])
def test_legrad_is_each_blocks_own_score_differentiated(read, last):
    net = drawn(lambda: Written(read))
    net(X)
    sensitive = []
    for block in net.blocks:
        (g,) = torch.autograd.grad(net.end(block.given)[:, 2].sum(), [block.seen], retain_graph=True)
        sensitive.append(g.clamp(min=0).mean((1, 2)))
    wanted = torch.stack(sensitive[-last if last else 0 :]).mean(0)[:, 1:].reshape(2, 4, 6).numpy()
    found = maps(net, "legrad", target=2, last=last)
    assert np.allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("source", ["torchvision", "timm", "transformers"])
def test_other_peoples_blocks_are_found(source):
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    if source == "torchvision":
        vit = zoo.import_torchvision().models.VisionTransformer
        net = drawn(lambda: vit(32, 8, 3, 2, 16, 32, num_classes=3))
        with torch.no_grad():
            net.heads.head.weight.normal_(generator=torch.Generator().manual_seed(0))
        blocks = list(net.encoder.layers)
        end = lambda t: net.heads(net.encoder.ln(t)[:, 0])  # noqa: E731
    elif source == "timm":
        timm = pytest.importorskip("timm")
        net = drawn(
            lambda: timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, depth=3, num_classes=3)
        )
        blocks, end = list(net.blocks), lambda t: net.forward_head(net.norm(t))
    else:
        transformers = pytest.importorskip("transformers")
        config = transformers.ViTConfig(
            hidden_size=24, num_hidden_layers=3, num_attention_heads=2, image_size=32, patch_size=8, num_labels=3
        )
        net = drawn(lambda: transformers.ViTForImageClassification(config))
        blocks = [m for m in net.modules() if type(m).__name__ == "ViTLayer"]
        end = lambda t: net.classifier(net.vit.layernorm(t)[:, 0])  # noqa: E731
    found = maps(net, "legrad", x, target=1)
    assert found.shape == (2, 4, 4)
    assert found.min() >= 0 < found.max()
    wanted = own_scores(net, blocks, end, x)
    assert np.allclose(found, wanted, atol=2e-5 * wanted.max())


def own_scores(net: nn.Module, blocks: list[nn.Module], end: Any, x: Tensor) -> np.ndarray:
    """Differentiate each block's own score with respect to attention, that block run again by itself."""
    from sightline.attention import find_attention, gradients_kept

    given: list[Tensor] = []
    hooks = [b.register_forward_pre_hook(lambda m, a: given.append(a[0].detach())) for b in blocks]
    with torch.no_grad():
        net(x)
    for hook in hooks:
        hook.remove()
    total = torch.zeros(2, 17)
    for block, tokens in zip(blocks, given, strict=True):
        output = block(tokens.requires_grad_(True))
        score = end(output[0] if isinstance(output, tuple) else output)[:, 1].sum()
        (one,) = find_attention(score.grad_fn, 2, (32, 32))
        with gradients_kept([one]) as kept:
            score.backward(retain_graph=True)
        total += one.gradient(kept[one.node]).clamp(min=0).mean((1, 2)) / len(blocks)
    return total[:, 1:].reshape(2, 4, 4).numpy()


class PassedBy(Written):
    """Scores that depend on more than the last block's tokens."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + x.mean((1, 2, 3))[:, None] * torch.arange(4)


class InOneModule(Written):
    """Blocks that are no modules of their own."""

    def __init__(self) -> None:
        super().__init__("class")
        self.qkvs = nn.ModuleList([nn.Linear(16, 48) for _ in range(2)])
        self.blocks = nn.ModuleList()

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat((self.first.expand(len(x), -1, -1), self.patch(x).flatten(2).transpose(1, 2)), 1)
        for qkv in self.qkvs:
            q, k, v = qkv(x).chunk(3, -1)
            x = x + torch.softmax(q @ k.mT, -1) @ v
        return self.end(x)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: PassedBy("class"), "legrad: the tokens after 'blocks.2' alone do not decide.*use attention_gradient"),
        (InOneModule, "blocks that are modules of their own.*use attention_gradient"),
    ],
    ids=["passed by", "no modules"],
)
def test_where_blocks_cannot_be_scored_it_is_refused(build, message):
    for images in (X, X[:1]):
        with pytest.raises(RefusedError, match=message):
            maps(drawn(build), "legrad", images)


@pytest.mark.parametrize("method", ["attention_flow", "legrad"])
def test_a_net_without_attention_is_refused(method):
    net, x = make("conv")
    with pytest.raises(RefusedError, match=r"no attention.*grad_cam"):
        maps(net, method, x)
