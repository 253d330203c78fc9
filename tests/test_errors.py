"""Messages of one line, and patterns that take no more time than a text is long."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import instsynth_dagster
from instsynth_dagster.errors import UserError, one_line

LONG = 200_000
"""Characters of which a quadratic search makes minutes."""


@given(st.text(alphabet=st.sampled_from("ab \n\r\t\v\u2028\x85\x1c"), max_size=40))
def test_breaks_and_the_blanks_around_them_become_one_blank(text: str):
    assert one_line(text) == " ".join(filter(None, (part.strip() for part in text.splitlines()))).replace("\t", "\\t")


@pytest.mark.parametrize("text", [" " * LONG, " " * LONG + "x", "x" + "\n" * LONG + "x", "\t\n" * LONG])
def test_long_blanks_are_read_in_one_go(text: str):
    assert len(str(UserError(text))) < 1100


def patterns() -> Iterator[tuple[str, re.Pattern[str]]]:
    """Those of modules that compile any; to import all modules would load every library of models."""
    package = Path(instsynth_dagster.__file__).parent
    for path in sorted(package.rglob("*.py")):
        if "demo" in path.parts or "re.compile(" not in path.read_text():
            continue
        module = ".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__")
        for name, value in vars(importlib.import_module(module)).items():
            if isinstance(value, re.Pattern) and isinstance(value.pattern, str):
                yield f"{module}.{name}", value


@pytest.mark.parametrize("pattern", [pytest.param(value, id=name) for name, value in patterns()])
def test_no_pattern_is_quadratic(pattern: re.Pattern[str]):
    pieces = ("a", "a/", ":", "s3://a:", "s3://" + "/", "0", "_000000", "-", " ", ". ", "a.", "{a", "a" * 64 + " ")
    for piece in pieces:
        text = piece * (LONG // len(piece))
        for way in (text, f"model.{text}", f"{text}!"):
            pattern.match(way)
            pattern.fullmatch(way)
