"""The last layer of a Keras model, made anew for other classes, what of the rest is learned, and the learned end."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sightline.errors import ModelError, ParameterError
from sightline.forward import find_logits, run_forward
from sightline.models.adapted import bare
from sightline.models.keras import from_keras, import_keras, keras_layers
from sightline.models.keras_zoo import seeded
from sightline.models.model import Model
from sightline.models.session import undisturbed

__all__ = ["End", "Trunk", "freeze", "is_graph", "logits_only", "sized", "stilled", "tail_of", "with_head"]

keras: Any = import_keras()

_HEADS = (keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D)
_PROBABILITIES = ("softmax", "sigmoid")


@dataclass(frozen=True, eq=False)
class Call:
    """A layer's call in a forward pass: its name, what it was given and what it made of it."""

    name: str
    layer: Any
    given: tuple[Any, ...]
    output: Any

    @property
    def owns_weights(self) -> bool:
        """Whether the layer has weights of its own, not of layers inside it."""
        inside = {id(w) for part in _inside(self.layer) for w in part.weights}
        return any(id(w) not in inside for w in self.layer.weights)

    @property
    def is_single(self) -> bool:
        """Whether there are no layers inside it, and it made one tensor of one."""
        tensors = len(self.given) == 1 and isinstance(self.given[0], Tensor) and isinstance(self.output, Tensor)
        return tensors and not _inside(self.layer)


def _inside(layer: Any) -> list[Any]:
    return list(layer._flatten_layers(include_self=False))


def calls_of(model: Model, x: Tensor) -> tuple[list[Call], Tensor]:
    """Return the calls of a model's layers on ``x`` (N, C, *S), in the order in which they end, and its scores."""
    found: list[Call] = []
    with ExitStack() as stack, undisturbed(model.module), torch.no_grad():
        for name, layer in keras_layers(bare(model.module)).items():
            stack.enter_context(_heard(name, layer, found))
        scores = find_logits(model.module(x), len(x))
    return found, scores


@contextmanager
def _heard(name: str, layer: Any, calls: list[Call]) -> Iterator[None]:
    handle = layer.register_forward_hook(lambda _, given, output: calls.append(Call(name, layer, given, output)))
    try:
        yield
    finally:
        handle.remove()


def _owners(calls: Sequence[Call]) -> list[Call]:
    """Return the first call of each layer that owns weights."""
    first = {id(c.layer): c for c in reversed(calls)}
    return [c for c in calls if c is first[id(c.layer)] and c.owns_weights]


def _example(model: Model) -> Tensor:
    return model.example_input().to(model.device, model.dtype)


# --- the end --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class End:
    """The layer that makes the logits, by name, and the one whose activation makes probabilities of them, if any."""

    head: str
    closing: Any


def sized(model: Model) -> Model:
    """Return the model for inputs of the size that its preprocessing makes, around the same layers.

    Raises ModelError where its layers do not allow that.
    """
    net: Any = bare(model.module)
    spatial = tuple(model.example_input().shape[2:])
    given = net.inputs[0] if is_graph(net) and net.inputs else None
    if given is None or model.input_size is not None:
        return model
    last = bool(getattr(model.module, "channels_last", True))
    shape = _with_sides(tuple(given.shape[1:]), spatial, last)
    if shape == tuple(given.shape[1:]) or None in given.shape[1:]:
        return model
    try:
        new = _cloned(net, {}, keras.Input(shape, name=given.name, dtype=given.dtype))
    except ValueError as error:
        text = " ".join(str(error).split())[:160]
        raise ModelError(f"{model.name} takes {tuple(given.shape[1:])} alone, not {shape} ({text}).") from None
    return _around(model, new)


def _with_sides(before: tuple[Any, ...], spatial: tuple[int, ...], last: bool) -> tuple[Any, ...]:
    if len(before) == len(spatial):
        return spatial
    return (*spatial, before[-1]) if last else (before[0], *spatial)


def with_head(model: Model, classes: int, seed: int) -> tuple[Model, End]:
    """Return the model with a new last layer of so many classes and a softmax, all other layers being the same ones.

    The new weights are drawn from a seed by the old layer's own initialisers. A random model that already has so many
    classes keeps its own, and so does a class of one's own, in which no layer can be replaced.
    Raises ModelError where it would have to be, or where no last layer is found.
    """
    head, after = _end(model)
    outputs = _units(head.layer)
    closing = next((c for c in reversed([head, *after]) if _activation(c.layer) in _PROBABILITIES), None)
    graph = is_graph(bare(model.module))
    ends_well = closing is None or _activation(closing.layer) == "softmax"
    if outputs == classes and (not graph or model.weights == "random") and ends_well:
        return model, End(head.name, None if closing is None else closing.layer)
    if not graph:
        raise ModelError(
            f"{model.name} is a class of its own ({type(bare(model.module)).__name__}) with {outputs} outputs, and no "
            f"layer in it can be replaced; build it with {classes}, or as a Sequential or functional model."
        )
    with keras.device(model.device.type):
        made = seeded(seed, lambda: {id(c.layer): _made(c, outputs, classes, closing or head) for c in [head, *after]})
        changed = _around(model, _cloned(bare(model.module), made))
    head, after = _end(changed)
    return changed, End(head.name, next(c.layer for c in [head, *after] if _activation(c.layer) == "softmax"))


def _around(model: Model, net: Any) -> Model:
    new = from_keras(net, model.name)
    return replace(model, module=new.module, input_size=new.input_size, _layers={}, _copies={}, _shuffled={})


def _end(model: Model) -> tuple[Call, list[Call]]:
    """Return the call of the last layer with weights, and those after it."""
    x = _example(model)
    calls, _ = calls_of(model, x)
    scores = run_forward(model.module, x, grad=False).logits
    owners = _owners(calls)
    head = owners[-1] if owners else None
    if head is None or not isinstance(head.layer, _HEADS) or _units(head.layer) != scores.shape[1]:
        said = "no layer with weights runs" if head is None else f"'{head.name}' is a {type(head.layer).__name__}"
        raise ModelError(
            f"{model.name}: the last layer is to be replaced, but {said}, which does not make the {scores.shape[1]} "
            "scores; wanted a model that ends in a Dense layer or a convolution."
        )
    after = [c for c in calls[calls.index(head) + 1 :] if c.is_single]
    return head, after


def _units(layer: Any) -> int:
    return int(getattr(layer, "units", 0) or getattr(layer, "filters", 0))


def _activation(layer: Any) -> str:
    """Name a layer's activation; Keras' own layer for softmax has none by that name."""
    if isinstance(layer, keras.layers.Softmax):
        return "softmax"
    return str(getattr(getattr(layer, "activation", None), "__name__", ""))


def _made(call: Call, outputs: int, classes: int, closing: Call) -> Any:
    """Return what takes the place of the head, or of a layer after it that knows the number of classes."""
    layer = call.layer
    config = {k: v for k, v in layer.get_config().items() if k not in ("build_config", "compile_config")}
    if isinstance(layer, keras.layers.Reshape):
        shape = [classes if n == outputs else n for n in layer.target_shape]
        return keras.layers.Reshape(shape, name=layer.name)
    if call is closing and "activation" in config:
        config["activation"] = "softmax"
    for key in ("units", "filters"):
        if key in config:
            config[key] = classes
    changed = call is closing or isinstance(layer, _HEADS)
    return type(layer).from_config(config) if changed else layer


def _cloned(net: Any, made: dict[int, Any], given: Any = None) -> Any:
    """Return a model's graph anew around the same layers, but for those that were made, from ``given`` on."""
    inside = not {id(layer) for layer in net.layers}.issuperset(made)
    compiled, net.compiled = net.compiled, False  # or the copy would be compiled too, for another loss
    try:
        return keras.models.clone_model(net, given, lambda part: made.get(id(part), part), recursive=inside)
    finally:
        net.compiled = compiled


def is_graph(net: Any) -> bool:
    """Say whether a model is a graph of layers, Sequential or functional, and not a class with code of its own."""
    return isinstance(net, keras.Sequential) or bool(getattr(net, "operations", ()))


@contextmanager
def logits_only(closing: Any) -> Iterator[None]:
    """Leave the softmax out for a while: the loss of logits is the sounder one."""
    with ExitStack() as stack:
        if isinstance(closing, keras.layers.Softmax):
            stack.callback(closing.register_forward_hook(_given_back).remove)
        elif closing is not None:
            stack.callback(setattr, closing, "activation", closing.activation)
            closing.activation = keras.activations.linear
        yield


def _given_back(_: Any, given: Any, __: Any) -> Any:
    """Return what a layer was given, unless its graph is being made."""
    return given[0] if isinstance(given[0], Tensor) else None


# --- what is learned ------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Trunk:
    """What of a model is learned: the layers ``learned`` by name; ``frozen`` layers of all ``layers`` stay."""

    learned: tuple[str, ...]
    frozen: int
    layers: int


@contextmanager
def freeze(model: Model, asked: str) -> Iterator[Trunk]:
    """Let layers stay as they are for a while; a batch norm that stays is in inference mode.

    "features" learns the layers after the last one that sees positions, "none" all, a number leaves so many layers
    with weights as they are, from the input on. Raises ParameterError where nothing would be learned.
    """
    owners = _owners(calls_of(model, _example(model))[0])
    stay = _features(owners) if asked == "features" else 0 if asked == "none" else int(asked)
    if stay >= len(owners):
        raise ParameterError(
            f"freeze={asked}: the model has {len(owners)} layers with weights, so nothing would be learned."
        )
    layers = list(keras_layers(bare(model.module)).values())
    before = [(layer, layer.trainable) for layer in layers]
    for layer in layers:
        layer.trainable = True
    for call in owners[:stay]:
        call.layer.trainable = False
    try:
        yield Trunk(tuple(c.name for c in owners[stay:]), stay, len(owners))
    finally:
        for layer, trainable in before:
            layer.trainable = trainable


def _features(owners: Sequence[Call]) -> int:
    """Return how many layers there are before the last block that sees vectors (N, C) only; the head is in it."""
    count = len(owners) - 1
    while count and all(isinstance(t, Tensor) and t.ndim == 2 for t in owners[count - 1].given):
        count -= 1
    return count


@contextmanager
def stilled(model: Model, trunk: Trunk) -> Iterator[None]:
    """Run what comes before the first learned layer as in inference: dropout there would blur what is not learned."""
    calls, _ = calls_of(model, _example(model))
    start = next(n for n, c in enumerate(calls) if c.name == trunk.learned[0])
    with ExitStack() as stack:
        for call in calls[:start] if trunk.frozen else ():
            if not _inside(call.layer):
                handle = call.layer.register_forward_pre_hook(_as_in_inference, with_kwargs=True)
                stack.callback(handle.remove)
        yield


def _as_in_inference(_: Any, given: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    return given, named | ({"training": False} if "training" in named else {})


def tail_of(model: Model, trunk: Trunk) -> Any:
    """Return the learned end as a model of its own around the same layers, or None where it is no chain of layers.

    Two random inputs are tried: what the first learned layer was given must lead to the same scores, bit for bit.
    """
    x = _example(model)
    calls, scores = calls_of(model, torch.cat([x, -x]))
    calls = [c for c in calls if not _inside(c.layer)]
    start = next((n for n, c in enumerate(calls) if c.name == trunk.learned[0]), None)
    if not trunk.frozen or start is None or not _is_chain(calls[start:]):
        return None
    given = calls[start].given[0]
    with keras.device(model.device.type), torch.no_grad():
        tail = keras.Sequential([keras.Input(given.shape[1:]), *(c.layer for c in calls[start:])], name="tail")
        again = find_logits(tail(given, training=False), len(given))
    return tail if again.shape == scores.shape and torch.equal(again, scores) else None


def _is_chain(calls: Sequence[Call]) -> bool:
    distinct = len({id(c.layer) for c in calls}) == len(calls)
    fits = (torch.equal(a.output, b.given[0]) for a, b in itertools.pairwise(calls))
    return distinct and all(c.is_single for c in calls) and all(fits)
