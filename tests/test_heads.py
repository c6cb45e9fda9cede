"""Which layers make the logits, how they are made anew, and what cannot be trained."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nets import BinaryNet, ChannelsLastNet, ConvNet, DenseNet, SignalNet, SoftmaxNet, TokenNet
from sightline.errors import ModelError
from sightline.forward import find_logits
from sightline.geometry import Preprocessing
from sightline.models.load import load
from sightline.models.model import Model
from sightline.training.heads import find_heads, trainable, with_heads
from sightline.training.trunk import freeze

SMALL = Preprocessing(resize=(16, 16), crop=None, mean=(0.5,) * 3, std=(0.5,) * 3)
X = torch.randn((2, 3, 16, 16), generator=torch.Generator().manual_seed(1))


def loaded(module: nn.Module, how: Preprocessing = SMALL) -> Model:
    return load(module.eval(), preprocessing=how)


def heads_of(module: nn.Module) -> tuple[str, ...]:
    model = trainable(loaded(module))
    return find_heads(model.module, model.example_input())


class Doubled(ConvNet):
    """Two heads whose logits are added up, as in a distilled transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.second = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.pool(self.features(x)).flatten(1)
        return (self.head(h) + self.second(h)) / 2


class Aliased(ConvNet):
    """One head in two places, called once in each."""

    def __init__(self) -> None:
        super().__init__()
        self.again = self.head

    def forward(self, x: Tensor) -> Tensor:
        h = self.pool(self.features(x)).flatten(1)
        return self.head(h) + self.again(h)


class Functional(ConvNet):
    """Its logits come from weights that no layer owns."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.head, self.way = nn.Linear(8, 5), way
        self.kernel = nn.Parameter(torch.ones(5, 5))

    def forward(self, x: Tensor) -> Tensor:
        h = super().forward(x)
        return torch.einsum("nc,kc->nk", h, self.kernel) if self.way == "einsum" else F.linear(h, self.kernel)


class Wrapped(nn.Module):
    """A net in a net, which owns a weight itself and so ends after its own head."""

    def __init__(self) -> None:
        super().__init__()
        self.net = TokenNet()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Normed(ConvNet):
    """A batch norm after the head, which wants as many classes."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(5)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(super().forward(x))


class Lazy(ConvNet):
    """A head that learns its width from the first input."""

    def __init__(self) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch calls them new
            self.head = nn.LazyLinear(5)


class Homemade(ConvNet):
    """Probabilities that no softmax of torch's made."""

    def forward(self, x: Tensor) -> Tensor:
        h = super().forward(x).exp()
        return h / h.sum(1, keepdim=True)


@pytest.mark.parametrize(
    ("make", "heads"),
    [
        (ConvNet, ("head",)),
        (TokenNet, ("head",)),
        (Wrapped, ("net.head",)),
        (ChannelsLastNet, ("head",)),
        (Aliased, ("head",)),
        (Doubled, ("second", "head")),
        (Lazy, ("head",)),
    ],
)
def test_the_heads_are_found_and_make_as_many_logits_as_asked(make: type[nn.Module], heads: tuple[str, ...]) -> None:
    model = trainable(loaded(make()))
    before = model.weights_hash
    assert find_heads(model.module, model.example_input()) == heads
    assert Model(model.module, "", SMALL).weights_hash == before  # the trials left nothing behind
    with_heads(model.module, heads, 2, seed=3)
    assert find_logits(model.module(X), 2).shape == (2, 2)


def test_a_head_in_two_places_is_one_head_still() -> None:
    net = with_heads(Aliased(), ["head"], 4)
    assert net.head is net.again


def test_the_new_head_follows_from_the_seed_and_leaves_the_global_state_alone() -> None:
    nets = [ConvNet() for _ in range(3)]
    before = torch.get_rng_state()
    a, b, c = (with_heads(net, ["head"], 3, seed).head for net, seed in zip(nets, (0, 0, 1), strict=True))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(a.weight, b.weight)
    assert not torch.equal(a.weight, c.weight)
    assert not a.bias.any()


def test_two_heads_begin_with_different_weights() -> None:
    net = with_heads(Doubled(), ["head", "second"], 3)
    assert not torch.equal(net.head.weight, net.second.weight)


@pytest.mark.parametrize(
    "old",
    [
        nn.Linear(4, 5, bias=False),
        nn.Conv1d(4, 5, 3, 2, 1, bias=False),
        nn.Conv2d(4, 5, (1, 3), dilation=2, padding_mode="reflect", padding=1),
        nn.Conv3d(4, 5, 1),
    ],
)
def test_the_new_layer_is_like_the_old_but_for_its_outputs(old: nn.Module) -> None:
    made = with_heads(nn.Sequential(old.double()), ["0"], 7)[0]
    assert type(made) is type(old)
    assert made.weight.dtype == torch.float64
    assert made.weight.shape == (7, *old.weight.shape[1:])
    assert (made.bias is None) == (old.bias is None)
    assert repr(made) == repr(old).replace(", 5,", ", 7,").replace("out_features=5", "out_features=7")


def test_a_name_that_is_no_layer_and_a_layer_that_is_no_head_are_sentences() -> None:
    with pytest.raises(ModelError, match="no layer 'fc'"):
        with_heads(ConvNet(), ["fc"], 2)
    with pytest.raises(ModelError, match="a MaxPool2d came"):
        with_heads(ConvNet(), ["features.3"], 2)


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (SoftmaxNet(), "ends in a softmax.*let its forward return what that last step is given"),
        (BinaryNet(), "ends in a sigmoid"),
        (nn.Sequential(ConvNet(), nn.LogSoftmax(1)), "ends in a log_softmax"),
        (Homemade(), "ends in a softmax"),
        (DenseNet(), r"one for each place of an image; wanted"),
        (Functional("einsum"), "no layer was found that makes the 5 logits by itself.*'head' .Linear."),
        (Functional("linear"), "no layer was found"),
        (Normed(), r"the last with weights is 'norm' \(BatchNorm1d\)"),
    ],
)
def test_what_has_no_head_is_refused_with_what_to_do(module: nn.Module, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        heads_of(module)


def test_series_have_heads_too() -> None:
    how = Preprocessing(resize=None, crop=None, mean=(0.0,) * 2, std=(1.0,) * 2, scale=1.0)
    model = trainable(load(SignalNet(), preprocessing=how, dims=1))
    assert find_heads(model.module, torch.randn(1, 2, 40)) == ("head",)


# --- copies -------------------------------------------------------------------------------------------------


def test_a_module_of_ones_own_is_left_as_it_is() -> None:
    own = ConvNet().train()
    own.head.weight.requires_grad_(False)
    kept = {k: v.clone() for k, v in own.state_dict().items()}
    model = trainable(load(own, preprocessing=SMALL))
    with_heads(model.module, ["head"], 2)
    freeze(model, ["head"], "features")
    assert model.module is not own
    assert all(torch.equal(v, kept[k]) for k, v in own.state_dict().items())
    assert own.training
    assert [p.requires_grad for p in own.head.parameters()] == [False, True]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_are_trained_in_float32(dtype: torch.dtype) -> None:
    model = trainable(loaded(ConvNet().to(dtype)))
    assert model.dtype == torch.float32
    assert heads_of(ConvNet().to(dtype)) == ("head",)


def test_weights_that_wait_for_an_input_are_drawn_from_the_seed() -> None:
    nets = [Lazy() for _ in range(3)]
    before = torch.get_rng_state()
    a, b, c = (trainable(loaded(net), s).module.head.weight for net, s in zip(nets, (1, 1, 2), strict=True))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")
def test_a_compiled_module_is_trained_as_the_module_it_was_made_of() -> None:
    net = ConvNet().eval()
    assert type(trainable(load(torch.compile(net, backend="eager"), preprocessing=SMALL)).module) is ConvNet


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:DeprecationWarning")
def test_what_cannot_be_trained_is_said() -> None:
    scripted = torch.jit.trace(ConvNet().eval(), X)
    with pytest.raises(ModelError, match="TorchScript cannot be changed: give the module"):
        trainable(load(scripted, preprocessing=SMALL))
    with pytest.raises(ModelError, match=r"a function.*has no weights to learn"):
        trainable(load(lambda x: x.mean((2, 3)), preprocessing=SMALL))
    with pytest.raises(ModelError, match="output= or fixed="):
        trainable(load(DenseNet(), preprocessing=SMALL, output="out"))
    with pytest.raises(ModelError, match="no weights that could be learned"):
        trainable(load(nn.Flatten(), preprocessing=SMALL))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_exported_programs_and_onnx_files_are_refused(tmp_path: Path) -> None:
    net = ConvNet().eval()
    torch.export.save(torch.export.export(net, (X,)), tmp_path / "net.pt2")
    with pytest.raises(ModelError, match="an exported program always runs as in evaluation"):
        trainable(load(tmp_path / "net.pt2", trust=True))
    torch.onnx.export(net, (X,), tmp_path / "net.onnx", dynamo=False)
    with pytest.raises(ModelError, match="an ONNX file holds what a training came to"):
        trainable(load(tmp_path / "net.onnx"))
