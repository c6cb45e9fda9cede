"""Attention within windows: the windows' places against what other people's Swins computed, and the methods by hand."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sightline
from nets import drawn
from sightline.attention import Attention, find_attention
from sightline.errors import RefusedError
from sightline.methods.attention import lowered
from sightline.models import zoo
from sightline.models.session import undisturbed

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning"
)  # of the libraries


@dataclass
class Block:
    """A block's attention as its library wrote it: what it is given, what it adds, its values and its projection."""

    given: nn.Module  # whose output it is given
    then: nn.Module  # whose input is the block's input and what attention adds
    module: nn.Module
    value: Any
    project: nn.Module


def _third(qkv: nn.Linear, x: Tensor) -> Tensor:
    return nn.functional.linear(x, *(p.chunk(3)[2] for p in (qkv.weight, qkv.bias)))


def torchvision_swin() -> tuple[nn.Module, list[Block]]:
    make = zoo.import_torchvision().models.SwinTransformer
    net = drawn(lambda: make([4, 4], 12, [2, 2], [2, 2], [4, 4], num_classes=3))
    blocks = [b for stage in (net.features[1], net.features[3]) for b in stage]
    return net, [Block(b.norm1, b.norm2, b, lambda x, a=b.attn: _third(a.qkv, x), b.attn.proj) for b in blocks]


def timm_swin(size: tuple[int, int] = (64, 64)) -> tuple[nn.Module, list[Block]]:
    timm = pytest.importorskip("timm")
    net = drawn(
        lambda: timm.create_model(
            "swin_tiny_patch4_window7_224", img_size=size, window_size=4, embed_dim=12, depths=(2, 2), num_heads=(2, 2),
            num_classes=3,
        )
    )  # fmt: skip
    blocks = [b for stage in net.layers for b in stage.blocks]
    return net, [Block(b.norm1, b.norm2, b, lambda x, a=b.attn: _third(a.qkv, x), b.attn.proj) for b in blocks]


def transformers_swin() -> tuple[nn.Module, list[Block]]:
    transformers = pytest.importorskip("transformers")
    config = transformers.SwinConfig(
        image_size=64, embed_dim=12, depths=[2, 2], num_heads=[2, 2], window_size=4, num_labels=3
    )
    net = drawn(lambda: transformers.SwinForImageClassification(config))
    blocks = [b for stage in net.swin.encoder.layers for b in stage.blocks]
    return net, [
        Block(b.layernorm_before, b.layernorm_after, b, b.attention.v_proj, b.attention.o_proj) for b in blocks
    ]


SWINS = {"torchvision": torchvision_swin, "timm": timm_swin, "transformers": transformers_swin}


def read(net: nn.Module, x: Tensor) -> list[Attention]:
    with undisturbed(net):
        output = net(x.clone().requires_grad_(True))
        return find_attention(getattr(output, "logits", output).sum().grad_fn, len(x), tuple(x.shape[2:]))


def whole(one: Attention, matrix: Tensor) -> Tensor:
    """Write a block's windows (R, t, t) as one matrix of all tokens (N, T, T)."""
    rows = [one.through(torch.eye(one.tokens)[[i]].expand(len(one.slots), -1), matrix) for i in range(one.tokens)]
    return torch.stack(rows, 1)


def seen(net: nn.Module, blocks: list[Block], x: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return, for each block, the grid that attention is given and what it adds, both (N, T, C)."""
    kept: dict[tuple[int, str], Tensor] = {}
    hooks = []
    for i, b in enumerate(blocks):
        hooks += [
            b.module.register_forward_pre_hook(lambda m, a, i=i: kept.update({(i, "block"): a[0]})),
            b.given.register_forward_hook(lambda m, a, o, i=i: kept.update({(i, "given"): o})),
            b.then.register_forward_pre_hook(lambda m, a, i=i: kept.update({(i, "then"): a[0]})),
        ]
    with torch.no_grad():
        net(x)
    for hook in hooks:
        hook.remove()
    flat = {k: v.reshape(len(x), -1, v.shape[-1]) for k, v in kept.items()}
    return [(flat[i, "given"], flat[i, "then"] - flat[i, "block"]) for i in range(len(blocks))]


@pytest.mark.parametrize("library", SWINS)
def test_weights_in_their_places_give_what_the_block_computed(library):
    net, blocks = SWINS[library]()
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    found = read(net, x)
    assert [a.grid for a in found] == [(16, 16), (16, 16), (8, 8), (8, 8)]
    for one, block, (given, added) in zip(found, blocks, seen(net, blocks, x), strict=True):
        heads = one.weights.shape[1]
        values = block.value(given).detach().unflatten(2, (heads, -1))
        mixed = [whole(one, one.weights[:, h]) @ values[:, :, h] for h in range(heads)]
        assert torch.allclose(block.project(torch.cat(mixed, 2)), added, atol=1e-5)


@pytest.mark.parametrize("size", [(64, 96), (72, 72), (40, 56)], ids=str)
def test_oblong_and_padded_grids_are_followed_too(size):
    net, blocks = torchvision_swin()
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    found = read(net, x)
    with torch.no_grad():
        for one, block, (given, added) in zip(found, blocks, seen(net, blocks, x), strict=True):
            inner = whole(one, one.weights.mean(1)).sum(2)  # below 1 where padding is attended to
            assert bool((inner <= 1 + 1e-5).all())
            if torch.allclose(inner, torch.ones(()), atol=1e-5):
                values = block.value(given).unflatten(2, (2, -1))
                mixed = [whole(one, one.weights[:, h]) @ values[:, :, h] for h in range(2)]
                assert torch.allclose(block.project(torch.cat(mixed, 2)), added, atol=1e-5)
    padded = [one.inner().mean() < 1 for one in found]
    assert any(padded) == (size != (64, 96))
    rollout = maps(net, "attention_rollout", x)
    assert rollout.shape == (2, size[0] // 4, size[1] // 4)
    assert np.allclose(rollout.sum((1, 2)), 1, atol=1e-5)


def test_windows_of_the_second_version_are_followed():
    make = zoo.import_torchvision().models.swin_transformer
    net = drawn(
        lambda: make.SwinTransformer(
            [4, 4], 12, [2, 2], [2, 2], [4, 4], num_classes=3, block=make.SwinTransformerBlockV2,
            downsample_layer=make.PatchMergingV2,
        )
    )  # fmt: skip
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    blocks = [b for stage in (net.features[1], net.features[3]) for b in stage]
    kept: list[tuple[Tensor, Tensor]] = []
    hooks = [b.attn.register_forward_hook(lambda m, a, o: kept.append((a[0], o))) for b in blocks]
    found = read(net, x)
    for hook in hooks:
        hook.remove()
    for one, block, (given, added) in zip(found, blocks, kept, strict=True):
        values = _third(block.attn.qkv, given.detach()).flatten(1, 2).unflatten(2, (2, -1))
        mixed = [whole(one, one.weights[:, h]) @ values[:, :, h] for h in range(2)]
        assert torch.allclose(block.attn.proj(torch.cat(mixed, 2)), added.flatten(1, 2), atol=1e-5)


def maps(net: nn.Module, method: str, x: Tensor, target: int = 1, **parameters: Any) -> np.ndarray:
    return np.stack([e.attribution for e in sightline.explain(net, x, method, target, **parameters)])


def merged() -> np.ndarray:
    """Return the 64 merged tokens' equal parts of the 256 that were merged, (64, 256)."""
    parts = np.zeros((8, 8, 16, 16))
    for i in range(16):
        for j in range(16):
            parts[i // 2, j // 2, i, j] = 1 / 4
    return parts.reshape(64, 256)


def test_rollout_is_the_product_of_all_tokens_matrices():
    net, _ = torchvision_swin()
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    steps = [0.5 * whole(a, a.weights.mean(1)).numpy() + 0.5 * np.eye(a.tokens) for a in read(net, x)]
    product = steps[3] @ steps[2] @ merged() @ steps[1] @ steps[0]
    wanted = product.mean(1).reshape(2, 16, 16)
    assert np.allclose(maps(net, "attention_rollout", x), wanted, atol=1e-7)
    last = whole(read(net, x)[3], read(net, x)[3].weights.amax(1)).mean(1).reshape(2, 8, 8)
    assert np.allclose(maps(net, "attention", x, heads="max"), last.numpy(), atol=1e-7)


def test_gradient_methods_are_their_formulas_over_all_tokens():
    net, _ = torchvision_swin()
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    found, kept = watched(net, x)
    weighted = [
        whole(a, (a.weights * g).clamp(min=0).mean(1)).numpy() for a, g in zip(found, kept, strict=True)
    ]  # Chefer et al.
    flow, plain = np.eye(256)[None], np.eye(256)
    for one in weighted[:2]:
        flow = flow + one @ flow
    flow, plain = merged() @ flow, merged() @ plain
    for one in weighted[2:]:
        flow = flow + one @ flow
    wanted = (flow - plain).mean(1).reshape(2, 16, 16)
    assert np.allclose(maps(net, "gradient_rollout", x), wanted, rtol=1e-3, atol=1e-4 * wanted.max())
    columns = [
        whole(a, (a.weights * g.clamp(min=0)).mean(1)).numpy().mean(1) for a, g in zip(found, kept, strict=True)
    ]  # Barkan et al.
    wanted = (sum(columns[:2]) + sum(columns[2:]) @ merged()).reshape(2, 16, 16) / 4
    assert np.allclose(maps(net, "attention_gradient", x), wanted, rtol=1e-4, atol=1e-7 * wanted.max())


def watched(net: nn.Module, x: Tensor) -> tuple[list[Attention], list[Tensor]]:
    """Return the attentions, and the gradients of class 1 at their weights as autograd gives them."""
    weights: list[Tensor] = []
    softmax = torch.nn.functional.softmax

    def kept(*args: Any, **kwargs: Any) -> Tensor:
        weights.append(softmax(*args, **kwargs))
        return weights[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "softmax", kept)
        scores = net(x)[:, 1]
    return read(net, x), list(torch.autograd.grad(scores.sum(), weights))


@pytest.mark.parametrize("library", SWINS)
def test_every_library_is_explained_alike(library):
    net, _ = SWINS[library]()
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for method in ("attention", "attention_rollout", "gradient_rollout", "attention_gradient"):
        found = maps(net, method, x)
        assert found.shape == ((2, 8, 8) if method == "attention" else (2, 16, 16))
        assert found.any()
        alone = maps(net, method, x[1:])
        assert np.allclose(alone, found[1:], rtol=1e-4, atol=1e-4 * np.abs(found).max())


class Mixed(nn.Module):
    """Windows of four tokens with something between them."""

    def __init__(self, between: nn.Module, mix: bool = False) -> None:
        super().__init__()
        self.patch, self.between, self.head, self.mix = nn.Conv2d(3, 8, 4, 4), between, nn.Linear(8, 3), mix
        self.qkv = nn.ModuleList([nn.Linear(8, 24), nn.Linear(8, 24)])

    def attend(self, x: Tensor, qkv: nn.Linear) -> Tensor:
        cut = x.unflatten(2, (4, 2)).unflatten(4, (4, 2)).permute(0, 2, 4, 3, 5, 1).flatten(0, 2).flatten(1, 2)
        cut = cut.cumsum(1) if self.mix else cut
        q, k, v = qkv(cut).chunk(3, -1)
        mixed = (torch.softmax(q @ k.mT, -1).unsqueeze(1) @ v.unsqueeze(1)).squeeze(1)
        back = mixed.unflatten(1, (2, 2)).unflatten(0, (-1, 4, 4)).permute(0, 5, 1, 3, 2, 4)
        return x + back.flatten(4, 5).flatten(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.attend(self.patch(x), self.qkv[0])
        return self.head(self.attend(self.between(x), self.qkv[1]).mean((2, 3)))


def test_what_cannot_be_followed_is_refused_with_what_can_be_used():
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    convolved = drawn(lambda: Mixed(nn.Conv2d(8, 8, 3, padding=1)))
    for method in ("attention_rollout", "gradient_rollout", "attention_gradient"):
        with pytest.raises(RefusedError, match=r"convolutions between its windows.*use attention"):
            maps(convolved, method, x)
    assert maps(convolved, "attention", x).shape == (2, 8, 8)
    assert maps(drawn(lambda: Mixed(nn.Identity())), "attention_rollout", x).shape == (2, 8, 8)
    with pytest.raises(RefusedError, match=r"within windows.*could not be followed; use grad_cam"):
        maps(drawn(lambda: Mixed(nn.Identity(), mix=True)), "attention", x)
    swin, _ = torchvision_swin()
    with pytest.raises(RefusedError, match="256 tokens within windows would take hours; use attention_rollout"):
        maps(swin, "attention_flow", torch.randn(1, 3, 64, 64))
    with pytest.raises(RefusedError, match=r"legrad scores each block's tokens.*use attention_gradient"):
        maps(swin, "legrad", torch.randn(1, 3, 64, 64))


@pytest.mark.parametrize(("above", "below"), [((2, 3), (4, 6)), ((2, 2), (3, 4)), ((1, 1), (3, 5))], ids=str)
def test_merged_tokens_hand_everything_down_in_equal_parts(above, below):
    upper, lower = (of_grid(grid) for grid in (above, below))
    shares = torch.rand(2, upper.tokens, generator=torch.Generator().manual_seed(0))
    found = lowered(shares, upper, lower).reshape(2, *below)
    assert torch.allclose(found.sum((1, 2)), shares.sum(1))
    steps = [-(-b // a) for a, b in zip(above, below, strict=True)]
    for i, j in np.ndindex(below):
        parent = (i // steps[0], j // steps[1])
        brothers = [p for p in np.ndindex(below) if (p[0] // steps[0], p[1] // steps[1]) == parent]
        wanted = shares[:, parent[0] * above[1] + parent[1]] / len(brothers)
        assert torch.allclose(found[:, i, j], wanted)


def test_tokens_that_were_not_merged_are_not_handed_down():
    with pytest.raises(RefusedError, match=re.escape("tokens of (8, 8) became (5, 5), which is no merging")):
        lowered(torch.ones(1, 25), of_grid((5, 5)), of_grid((8, 8)))


def of_grid(grid: tuple[int, ...]) -> Attention:
    node = torch.ones((), requires_grad=True).exp().grad_fn
    tokens = int(np.prod(grid))
    return Attention(node, torch.ones(1, 1, tokens, tokens), torch.arange(tokens).reshape(1, *grid))
