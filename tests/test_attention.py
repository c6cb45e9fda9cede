"""Attention read from the graph, against attention computed by hand, and rollout on a two-layer ViT by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import sightline
from nets import make
from sightline.attention import find_attention
from sightline.errors import RefusedError
from sightline.models import zoo

X = torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))


class Block(nn.Module):
    """Attention in any of the ways in which people write it."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.qkv, self.out, self.seen = way, nn.Linear(16, 48), nn.Linear(16, 16), None
        self.packed = nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        if self.way == "module with weights":
            mixed, self.seen = self.packed(x, x, x, average_attn_weights=False)
            return x + mixed
        if self.way == "module":
            _, self.seen = self.packed(x, x, x, average_attn_weights=False)
            return x + self.packed(x, x, x, need_weights=False)[0]
        q, k, v = self.qkv(x).unflatten(2, (3, 4, 4)).permute(2, 0, 3, 1, 4)
        self.seen = torch.softmax(q @ k.mT / 2, -1)
        if self.way == "by hand":
            self.seen.retain_grad() if self.seen.requires_grad else None
            mixed = self.seen @ v
        else:
            mixed = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(mixed.transpose(1, 2).flatten(2))


class Vit(nn.Module):
    def __init__(self, way: str, prefix: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patch, self.prefix = nn.Conv2d(3, 16, 8, 8), nn.Parameter(torch.randn(1, prefix, 16))
        self.blocks, self.head = nn.ModuleList([Block(way), Block(way)]), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat((self.prefix.expand(len(x), -1, -1), self.patch(x).flatten(2).transpose(1, 2)), 1)
        for block in self.blocks:
            x = block(x)
        return self.head(x[:, 0] if self.prefix.shape[1] else x.mean(1))


WAYS = ["by hand", "fused", "module", "module with weights"]


def maps(net, method: str, target: int = 1, x: Tensor = X, **parameters) -> np.ndarray:
    return np.stack([e.attribution for e in sightline.explain(net, x, method, target, **parameters)])


def seen(net: Vit) -> list[np.ndarray]:
    net(X)
    return [block.seen.detach().numpy() for block in net.blocks]


@pytest.mark.parametrize("way", WAYS)
def test_attention_is_what_the_net_computed_however_it_was_written(way):
    net = Vit(way).eval()
    first, last = seen(net)
    grid = (4, 6)
    assert np.allclose(maps(net, "attention"), last.mean(1)[:, 0, 1:].reshape(2, *grid), atol=1e-6)
    assert np.allclose(maps(net, "attention", block=0, head=2), first[:, 2, 0, 1:].reshape(2, *grid), atol=1e-6)
    assert np.allclose(maps(net, "attention", heads="max"), last.max(1)[:, 0, 1:].reshape(2, *grid), atol=1e-6)


@pytest.mark.parametrize("way", WAYS)
def test_rollout_is_the_product_by_hand(way):
    net = Vit(way).eval()
    steps = [0.5 * a.mean(1) + 0.5 * np.eye(25) for a in seen(net)]
    wanted = (steps[1] @ steps[0])[:, 0, 1:].reshape(2, 4, 6)
    assert np.allclose(maps(net, "attention_rollout"), wanted, atol=1e-6)


def by_hand(target: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return each block's weights and the class's gradient at them, by autograd on the net written by hand."""
    net = Vit("by hand").eval()
    scores = net(X)[:, target].sum()
    gradients = torch.autograd.grad(scores, [b.seen for b in net.blocks])
    return [(b.seen.detach().numpy(), g.numpy()) for b, g in zip(net.blocks, gradients, strict=True)]


@pytest.mark.parametrize("way", ["by hand", "fused"])
@pytest.mark.parametrize("target", [0, 2])
def test_gradient_rollout_is_its_formula_also_through_fused_attention(way, target):
    flow = np.broadcast_to(np.eye(25), (2, 25, 25))
    for a, g in by_hand(target):
        flow = flow + np.maximum(a * g, 0).mean(1) @ flow
    wanted = (flow - np.eye(25))[:, 0, 1:].reshape(2, 4, 6)
    assert np.allclose(maps(Vit(way).eval(), "gradient_rollout", target), wanted, atol=1e-6)
    wanted = np.mean([(a * np.maximum(g, 0)).mean(1) for a, g in by_hand(target)], 0)[:, 0, 1:].reshape(2, 4, 6)
    assert np.allclose(maps(Vit(way).eval(), "attention_gradient", target), wanted, atol=1e-6)


def test_without_a_class_token_all_rows_count():
    net = Vit("fused", prefix=0).eval()
    steps = [0.5 * a.mean(1) + 0.5 * np.eye(24) for a in seen(net)]
    assert np.allclose(maps(net, "attention_rollout"), (steps[1] @ steps[0]).mean(1).reshape(2, 4, 6), atol=1e-6)


def test_discarding_keeps_the_class_tokens_own_column():
    net = Vit("fused").eval()
    found = maps(net, "attention_rollout", discard=0.9)
    assert (found == 0).mean() > (maps(net, "attention_rollout") == 0).mean()
    assert np.isfinite(found).all()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("source", ["torchvision", "timm", "transformers"])
def test_it_is_read_from_other_peoples_models(source):
    torchvision = zoo.import_torchvision()
    if source == "torchvision":
        net = torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=3)
        nn.init.normal_(net.heads.head.weight)
    elif source == "timm":
        timm = pytest.importorskip("timm")
        net = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, depth=2, num_classes=3)
    else:
        transformers = pytest.importorskip("transformers")
        config = transformers.ViTConfig(
            hidden_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8, num_labels=3
        )
        net = transformers.ViTForImageClassification(config)
    for method in ("attention", "attention_rollout", "gradient_rollout"):
        found = maps(net.eval(), method, x=torch.randn(2, 3, 32, 32))
        assert found.shape == (2, 4, 4)
        assert found.any()


def test_what_has_no_attention_over_the_whole_image_is_refused():
    net, x = make("conv", torch.float32)
    with pytest.raises(RefusedError, match=r"no attention.*grad_cam"):
        maps(net, "attention", x=x)
    with pytest.raises(RefusedError, match="block 5; this model has 2"):
        maps(Vit("fused").eval(), "attention", block=5)
    with pytest.raises(RefusedError, match="head 7; this block has 4"):
        maps(Vit("fused").eval(), "attention", head=7)


@pytest.mark.parametrize(("way", "name"), [("by hand", "SoftmaxBackward0"), ("fused", "ScaledDotProduct")])
def test_the_nodes_of_this_torch_version_are_known(way, name):
    x = X.clone().requires_grad_(True)
    found = find_attention(Vit(way)(x).sum().grad_fn, 2, (32, 48))
    assert len(found) == 2
    assert all(name in a.node.name() for a in found)
    assert all(torch.allclose(a.weights.sum(-1), torch.ones(())) for a in found)
