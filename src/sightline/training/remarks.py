"""What people should know of their data before they believe an accuracy: leaks, contradictions, imbalance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from sightline.paths import shown
from sightline.training.splits import Item, by_hash, contradicted
from sightline.training.walking import counted

__all__ = ["of_order", "of_parts", "of_traits"]

_UNBALANCED = 5  # times as many images in one class as in another
_FEW = 100  # validation images: fewer, and one of them is over 1 % of the accuracy
_MODES = {1: "grey", 3: "RGB", 4: "RGBA"}
_TRAITS = {
    "grey": ("is grey", "are grey"),
    "colour": ("is in colour", "are in colour"),
    "alpha": ("has transparency (it lies on white)", "have transparency (they lie on white)"),
    "deep": ("has over 8 bits a value (it is brought to 8)", "have over 8 bits a value (they are brought to 8)"),
}


def of_parts(parts: Mapping[str, Sequence[Item]], classes: Sequence[str], noun: str = "image") -> list[str]:
    """Return the sentences that the items of "train", "val" and perhaps "test" call for."""
    return [
        *_leaks(parts, noun),
        *_contradictions(parts, classes, noun),
        *_copies(parts, noun),
        *_unbalanced(parts["train"], classes, noun),
        *_few(parts["val"], noun),
    ]


def of_traits(traits: Sequence[frozenset[str]], channels: int) -> list[str]:
    """Return a sentence for images that are not stored as they are read, with so many channels."""
    found = Counter(t for one in traits for t in one)
    hidden = {1: {"grey"}, 3: {"colour"}, 4: {"colour", "alpha"}}.get(channels, {*_TRAITS})
    told = [f"{found[t]:,} {_TRAITS[t][found[t] > 1]}" for t in _TRAITS if found[t] and t not in hidden]
    if not told:
        return []
    return [f"Of {counted(len(traits))} {', '.join(told)}; all are read as {_MODES[channels]}."]


def of_order(classes: Sequence[str]) -> list[str]:
    """Return a sentence for classes with numbers as names, whose order as text surprises."""
    if not all(c.isascii() and c.isdigit() for c in classes) or sorted(classes, key=int) == [*classes]:
        return []
    first = ", ".join(classes[:3])
    return [f"The class names are numbers and stand in the order of text ({first}, ...), as torchvision's and Keras'."]


def _leaks(parts: Mapping[str, Sequence[Item]], noun: str) -> Iterator[str]:
    seen: dict[str, Item] = {}
    for name, items in parts.items():
        both = [i for i in items if i.hash in seen]
        if both:
            other = shown(seen[both[0].hash].name)
            yield (
                f"{counted(len(both), noun)} of {name} {_are(both)} also in {_earlier(name)} ('{shown(both[0].name)}' "
                f"is '{other}'): the accuracy on {name} says too much; remove them from one part."
            )
        seen |= {i.hash: i for i in items}


def _earlier(name: str) -> str:
    return "train or val" if name == "test" else "train"


def _contradictions(parts: Mapping[str, Sequence[Item]], classes: Sequence[str], noun: str) -> Iterator[str]:
    unclear = contradicted([i for items in parts.values() for i in items])
    if unclear:
        one = next(iter(unclear.values()))[0]
        two = next(i for i in unclear[one.hash] if i.label != one.label)
        yield (
            f"{counted(len(unclear), noun)} {_are(unclear)} in more than one class ('{shown(one.name)}' as "
            f"{shown(classes[one.label])}, '{shown(two.name)}' as {shown(classes[two.label])}): decide for one."
        )


def _copies(parts: Mapping[str, Sequence[Item]], noun: str) -> Iterator[str]:
    for name, items in parts.items():
        alike = [group for group in by_hash(items).values() if len(group) > len({i.label for i in group}) == 1]
        if alike:
            first, second = (shown(i.name) for i in alike[0][:2])
            more = sum(map(len, alike)) - len(alike)
            copies = f"{counted(more, noun)} of {name} {'is a copy' if more == 1 else 'are copies'} of another"
            yield f"{copies} there, as '{second}' of '{first}'."


def _unbalanced(items: Sequence[Item], classes: Sequence[str], noun: str) -> Iterator[str]:
    (most, many), *_, (least, few) = Counter(i.label for i in items).most_common()
    if many >= _UNBALANCED * few:
        yield (
            f"The classes are unbalanced: '{shown(classes[most])}' has {many / few:.3g} times as many {noun}s to learn "
            f"from as '{shown(classes[least])}' ({many:,} and {few:,})."
        )


def _few(items: Sequence[Item], noun: str) -> Iterator[str]:
    if len(items) < _FEW:
        step = f"{100 / len(items):.2g}"
        yield f"There are {counted(len(items), f'validation {noun}')}: one of them is {step} points of the accuracy."


def _are(these: Sequence[object] | Mapping[str, object]) -> str:
    return "is" if len(these) == 1 else "are"
