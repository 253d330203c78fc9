"""Words of prompts, read from `vocabulary.yaml`: words that name a class, and phrases that the prompt grammar
combines.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

_NEGATIONS = frozenset({"no", "not", "never", "without", "nor"})
_REACH = 3
"""Number of words before a noun in which a negation refers to it: "no person", "without a red car"."""


def colors() -> Sequence[str]:
    """Colours that the grammar draws from."""
    return _vocabulary()["colors"]


def circumstances() -> Sequence[Sequence[str]]:
    """Alternatives for each circumstance (viewpoint, weather, ...); an empty text leaves it out."""
    return _vocabulary()["circumstances"]


def subjects(class_name: str) -> Sequence[str]:
    """Noun phrases of a class with the placeholder {color}, for the grammar."""
    return _of(class_name).get("subjects") or [f"a {{color}} {_spoken(class_name)}"]


def class_words(class_name: str) -> Sequence[str]:
    """Words that name a class, its own name first."""
    spoken = _spoken(class_name)
    return list(dict.fromkeys([spoken, *_of(class_name).get("words", [])]))


def names_class(prompt: str, class_name: str) -> bool:
    """Whether a prompt says, in any of the class's words and not negated, that it shows an instance of the class."""
    text = prompt.lower()
    nouns = "|".join(re.escape(word.lower()) for word in class_words(class_name))
    return any(
        not _NEGATIONS & set(_clause_before(text, found.start())[-_REACH:])
        for found in re.finditer(rf"\b(?:{nouns})(?:s|es)?\b", text)
    )


def _clause_before(text: str, end: int) -> list[str]:
    start = max(text.rfind(mark, 0, end) for mark in ",.;:") + 1
    return text[start:end].split()


def _spoken(class_name: str) -> str:
    return class_name.replace("_", " ").strip()


def _of(class_name: str) -> Mapping[str, Any]:
    return _vocabulary()["classes"].get(class_name, {})


@cache
def _vocabulary() -> Mapping[str, Any]:
    loaded: Mapping[str, Any] = yaml.safe_load((files(__package__) / "vocabulary.yaml").read_text())
    return loaded
