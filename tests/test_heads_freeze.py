"""What learns, what stays, and in which mode each part runs meanwhile."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nets import ConvNet, LinearNet, TokenNet
from sightline.errors import ParameterError
from sightline.geometry import Preprocessing
from sightline.models.load import load
from sightline.models.model import Model
from sightline.training.features import tail_of
from sightline.training.heads import find_heads, trainable
from sightline.training.trunk import Trunk, folded_norms, freeze, set_modes

SMALL = Preprocessing(resize=(16, 16), crop=None, mean=(0.5,) * 3, std=(0.5,) * 3)


def frozen(module: nn.Module, asked: str | int) -> tuple[Model, Trunk]:
    model = trainable(load(module.eval(), preprocessing=SMALL))
    return model, freeze(model, find_heads(model.module, model.example_input()), asked)


def learning(model: Model) -> set[str]:
    return {n for n, p in model.module.named_parameters() if p.requires_grad}


def training(model: Model, trunk: Trunk) -> set[str]:
    set_modes(model.module, trunk.resting)
    return {n for n, m in model.module.named_modules() if m.training}


class Flat(nn.Module):
    """Convolutions, then linear layers, all side by side, with dropouts between them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Dropout(0.5)
        self.first, self.drop2, self.second = nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.drop(F.relu(self.norm(self.conv(x))).mean((2, 3)))
        return self.second(self.drop2(F.relu(self.first(h))))


class Nested(nn.Module):
    """Three linear layers as a classifier after the features, as in VGG."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.5))
        self.classifier = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 5))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


class Attending(nn.Module):
    """torch's own attention, whose projection out is used without being called; a class token at the root."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.token = nn.Conv2d(3, 8, 4, 4), nn.Parameter(torch.zeros(1, 1, 8))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.cat((self.token.expand(len(x), -1, -1), self.patch(x).flatten(2).transpose(1, 2)), 1)
        return self.head(self.attention(h, h, h, need_weights=False)[0][:, 0])


class Tied(nn.Module):
    """Two layers of one weight, and one layer that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.twice = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 1)
        self.up, self.down, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 5)
        self.down.weight = self.up.weight

    def forward(self, x: Tensor) -> Tensor:
        h = self.twice(F.relu(self.twice(self.conv(x)))).mean((2, 3))
        return self.head(self.down(F.relu(self.up(h))))


def test_features_learns_the_block_around_the_head() -> None:
    model, trunk = frozen(Nested(), "features")
    assert (trunk.learned, trunk.frozen, trunk.layers) == ("classifier", 2, 5)
    assert learning(model) == {f"classifier.{i}.{w}" for i in (0, 1, 4) for w in ("weight", "bias")}
    assert training(model, trunk) == {"classifier", *(f"classifier.{i}" for i in range(5))}


def test_linear_layers_beside_the_head_learn_with_it() -> None:
    model, trunk = frozen(Flat(), "features")
    assert (trunk.learned, trunk.frozen, trunk.layers) == ("", 2, 4)
    assert learning(model) == {f"{n}.{w}" for n in ("first", "second") for w in ("weight", "bias")}
    assert training(model, trunk) == {"first", "drop2", "second"}  # what runs before them rests


def test_none_learns_everything_in_training_mode() -> None:
    model, trunk = frozen(Flat(), "none")
    assert (trunk.learned, trunk.frozen, trunk.layers) == ("", 0, 4)
    assert learning(model) == {n for n, _ in model.module.named_parameters()}
    assert training(model, trunk) == {n for n, _ in model.module.named_modules()}


@pytest.mark.parametrize(
    ("asked", "first"), [(0, "conv"), ("1", "norm"), (2, "first"), ("3", "second")]
)  # fmt: skip
def test_a_number_counts_layers_from_the_input_on(asked: str | int, first: str) -> None:
    model, trunk = frozen(Flat(), asked)
    order = ["conv", "norm", "first", "second"]
    assert {n.partition(".")[0] for n in learning(model)} == set(order[order.index(first) :])
    assert trunk.frozen == int(asked)


@pytest.mark.parametrize("asked", [4, "5", 10**9])
def test_a_number_beyond_the_layers_is_said(asked: str | int) -> None:
    with pytest.raises(ParameterError, match=f"freeze={asked}: the network has 4 layers with weights"):
        frozen(Flat(), asked)


def test_one_layer_alone_learns() -> None:
    model = trainable(load(LinearNet().eval(), preprocessing=Preprocessing((8, 8), None, (0.5,) * 3, (0.5,) * 3)))
    trunk = freeze(model, ("head",), "features")
    assert (trunk.learned, trunk.frozen, trunk.layers) == ("head", 0, 1)
    assert learning(model) == {"head.weight", "head.bias"}


def test_tokens_of_the_root_stay_where_anything_stays() -> None:
    model, trunk = frozen(TokenNet(), "features")
    assert trunk.learned == "head"
    assert learning(model) == {"head.weight", "head.bias"}
    model, _ = frozen(TokenNet(), 1)
    assert "prefix" not in learning(model)
    assert "blocks.0.qkv.weight" in learning(model)
    assert "prefix" in learning(frozen(TokenNet(), 0)[0])


def test_attentions_projection_goes_with_the_attention() -> None:
    model, trunk = frozen(Attending(), 1)
    assert trunk.layers == 3
    assert learning(model) == {n for n, _ in model.module.named_parameters() if not n.startswith(("patch", "token"))}
    assert learning(frozen(Attending(), 2)[0]) == {"head.weight", "head.bias"}


def test_a_weight_of_two_layers_stays_where_one_of_them_does() -> None:
    model, trunk = frozen(Tied(), 3)
    assert trunk.layers == 5
    assert learning(model) == {"down.bias", "head.weight", "head.bias"}
    assert "down" not in training(model, trunk)


def test_a_layer_that_runs_twice_is_where_it_runs_first() -> None:
    assert {n.partition(".")[0] for n in learning(frozen(Tied(), 1)[0])} == {"twice", "up", "down", "head"}


@pytest.mark.parametrize(("asked", "trains"), [("features", False), (1, True), ("none", True)])
def test_batch_norms_follow_the_batches_only_where_they_learn(asked: str | int, trains: bool) -> None:
    model, trunk = frozen(Nested(), asked)
    assert ("features.1" in training(model, trunk)) == trains


@pytest.mark.parametrize("asked", ["features", 2])
def test_dropouts_before_what_learns_are_off(asked: str | int) -> None:
    model, trunk = frozen(Nested(), asked)
    named = training(model, trunk)
    assert "features.3" not in named
    assert "classifier.3" in named


class Functional(nn.Module):
    """Dropout as a function, in a frozen part and at the root."""

    def __init__(self) -> None:
        super().__init__()
        self.part, self.head = _Dropping(), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.dropout(self.part(x), 0.5, self.training))


class _Dropping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.conv(x).mean((2, 3)), 0.5, self.training)


def test_frozen_features_are_the_same_while_the_head_learns_and_afterwards() -> None:
    model, trunk = frozen(Functional(), "features")
    x = model.example_input()
    before = model.module(x)
    assert training(model, trunk) == {"head"}
    assert torch.equal(model.module(x), before)
    assert tail_of(model, trunk.learned) is not None


def folded_net() -> Nested:
    net = Nested()
    nn.init.normal_(net.features[1].bias)
    return net


@pytest.mark.parametrize(("asked", "told"), [("none", ("features.1",)), ("features", ()), (1, ("features.1",))])
def test_folded_batch_norms_rest_and_are_told_where_they_would_learn(asked: str | int, told: tuple[str, ...]) -> None:
    model, trunk = frozen(folded_net(), asked)
    assert list(folded_norms(model.module)) == ["features.1"]
    assert trunk.folded == told
    named = training(model, trunk)
    assert "features.1" not in named
    assert "classifier.1" in named
    if told:
        assert {"features.1.weight", "features.1.bias"} <= learning(model)  # as scale and shift they learn


def test_batch_norms_as_made_or_with_real_statistics_are_not_folded() -> None:
    net = Nested()
    assert folded_norms(net) == {}
    net.train()(torch.randn((4, 3, 16, 16), generator=torch.Generator().manual_seed(0)))
    nn.init.normal_(net.features[1].bias)
    assert folded_norms(net) == {}
    assert folded_norms(nn.BatchNorm2d(3, affine=False)) == {}
    assert folded_norms(nn.BatchNorm2d(3, track_running_stats=False)) == {}


def test_a_net_that_is_wrapped_whole_is_no_block() -> None:
    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Flatten(), nn.Linear(768, 8), nn.ReLU(), nn.Linear(8, 5))

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)

    model, trunk = frozen(Wrapper(), "features")
    assert (trunk.learned, trunk.frozen) == ("net.3", 1)
    assert learning(model) == {"net.3.weight", "net.3.bias"}
    assert frozen(ConvNet(), "features")[1].learned == "head"
