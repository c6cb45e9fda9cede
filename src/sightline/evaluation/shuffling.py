"""One map made again by a model whose layers are shuffled: the picture behind `parameter_randomization`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from sightline.engine import explain
from sightline.errors import ParameterError
from sightline.evaluation.measure import class_of, pictures_of
from sightline.evaluation.metrics.randomization import Order, Similarity, alike
from sightline.evaluation.metrics.randomized import randomized, weight_layers
from sightline.explanation import Explanation
from sightline.models.load import load
from sightline.models.model import Model

__all__ = ["Shuffled", "layers_to_shuffle", "shuffled"]


@dataclass(frozen=True, eq=False)
class Shuffled:
    """An explanation made again with the weights of ``layers`` shuffled; ``similarity`` to the first is at most 1.

    It is NaN where one of the two maps is constant, as it has no correlation. ``explanation.predictions`` are what the
    shuffled model says of the picture.
    """

    layers: tuple[str, ...]
    explanation: Explanation
    similarity: float


def layers_to_shuffle(model: Model | nn.Module | str, e: Explanation) -> list[str]:
    """Name the layers that have weights to shuffle, from the output to the input, for the explanation's input.

    Raises RefusedError where the model shows no weights.
    """
    loaded = model if isinstance(model, Model) else load(model)
    return weight_layers(loaded, torch.zeros(1, loaded.preprocessing.channels, *e.input_size))


def shuffled(
    model: Model | nn.Module | str,
    e: Explanation,
    count: int,
    *,
    order: Order = "cascading",
    similarity: Similarity = "spearman_abs",
    seed: int = 0,
    tick: Callable[[int], None] | None = None,
) -> Shuffled:
    """Make an explanation again, for the same class, by the model with layers shuffled, and say how alike both are.

    "cascading" shuffles the ``count`` weight layers nearest the output, "independent" the one of that number alone;
    0 is the model itself. `parameter_randomization` is the mean of such similarities. The weights are those that
    `randomized` draws by ``seed``.

    Raises ParameterError for a count that the model does not have, RefusedError for a model whose weights cannot be
    reached or copied, InputError for an explanation that does not hold its picture or whose target is no class.

    >>> import sightline
    >>> from sightline.demo.scenes import scene
    >>> found = shuffled("demo/honest", sightline.explain("demo/honest", scene(0).image, "edges"), 6)
    >>> len(found.layers), found.similarity
    (6, 1.0)
    """
    loaded = model if isinstance(model, Model) else load(model)
    names = layers_to_shuffle(loaded, e)
    if not 0 <= count <= len(names):
        raise ParameterError(f"{count} layers to shuffle: {loaded.name} has 0 to {len(names)}.")
    chosen = tuple(names[:count] if order == "cascading" else names[max(0, count - 1) : count])
    again = _again(randomized(loaded, seed, chosen) if chosen else loaded, e, tick)
    before, after = (torch.from_numpy(one.at_input())[None] for one in (e, again))
    return Shuffled(chosen, again, float(alike(before, after, similarity)[0]))


def _again(model: Model, e: Explanation, tick: Callable[[int], None] | None) -> Explanation:
    found = explain(
        model,
        pictures_of([e]),
        e.method,
        class_of(model, [e]),
        layer=e.layer.split("+") if e.layer else None,
        output=e.provenance["output"],
        seed=e.provenance["seed"],
        tick=tick,
        **{f"{e.method}.{name}": value for name, value in e.parameters.items()},
    )
    return found[0] if isinstance(found, list) else found
