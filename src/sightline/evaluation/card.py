"""The trust card of one explanation: five questions, each answered in words with a number, or with why it cannot be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

__all__ = ["MARKS", "Answer", "TrustCard", "Verdict"]

Verdict = Literal["yes", "partly", "no", "unknown"]

MARKS: Mapping[Verdict, str] = {"yes": "✓", "partly": "~", "no": "✗", "unknown": "?"}
_WORDS: Mapping[Verdict, str] = {"yes": "Yes", "partly": "Partly", "no": "No", "unknown": "Not checked"}
_OTHERWISE: Mapping[Verdict, str] = {"partly": "in part", "unknown": "not checked"}


@dataclass(frozen=True)
class Answer:
    """A question, the verdict, the number that it rests on (None where there is none), and a sentence that says why."""

    question: str
    verdict: Verdict
    value: float | None
    sentence: str

    @property
    def mark(self) -> str:
        """The verdict as one character."""
        return MARKS[self.verdict]

    @property
    def words(self) -> str:
        """The verdict as a word and the sentence."""
        return f"{_WORDS[self.verdict]}. {self.sentence}"

    def __str__(self) -> str:
        return f"{self.mark} {self.question} {self.words}"


@dataclass(frozen=True)
class TrustCard:
    """What checks say of one explanation: whether it can be believed.

    >>> print(TrustCard((Answer("Is it stable?", "yes", 0.1, "A little noise changes the map by 10 %."),)))
    Can this map be believed? Nothing speaks against it: 1 of 1 check passed.
    ✓ Is it stable? Yes. A little noise changes the map by 10 %.
    """

    answers: tuple[Answer, ...]

    @property
    def headline(self) -> str:
        """How many checks passed, of those that could be made, in one line."""
        counts = {v: sum(a.verdict == v for a in self.answers) for v in MARKS}
        made = len(self.answers) - counts["unknown"]
        said = [f"{counts['yes']} of {made} check{'s' if made != 1 else ''} passed"]
        said += [f"{counts[v]} {text}" for v, text in _OTHERWISE.items() if counts[v]]
        return f"Can this map be believed? {self._short}: {', '.join(said)}."

    @property
    def _short(self) -> str:
        """The answer in a word or two: what passes all is not refuted, which is all that checks can say."""
        made = [a.verdict for a in self.answers if a.verdict != "unknown"]
        if not made:
            return "Not known"
        if "no" in made:
            return "Not as it stands" if made.count("no") == 1 else "Hardly"
        return "Nothing speaks against it" if set(made) == {"yes"} else "With care"

    def __str__(self) -> str:
        return "\n".join((self.headline, *map(str, self.answers)))

    def to_dict(self) -> dict[str, Any]:
        """Return the card as plain JSON values."""
        return {"headline": self.headline, "answers": [asdict(a) for a in self.answers]}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> TrustCard:
        """Read what `to_dict` wrote."""
        return TrustCard(tuple(Answer(**a) for a in data["answers"]))


def answered(question: str, verdict: Verdict, value: float, sentence: str) -> Answer:
    """Return an answer with its number; one that is not finite leaves it unknown."""
    finite = math.isfinite(value)
    return Answer(question, verdict if finite else "unknown", value if finite else None, sentence)
