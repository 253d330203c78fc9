"""What holds for every input, however bad: a result, or one line that says what to mend, and nothing stored."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from instsynth_dagster.errors import UserError

T = TypeVar("T")

CASES: Counter[str] = Counter()
"""Inputs tried so far, by kind."""


def outcome(kind: str, call: Callable[[], T], *names: str) -> T | UserError:
    """The result of a call, or the user's mistake that it found; anything else that it raises is a defect.

    Args:
        names: of which the message must hold one.
    """
    CASES[kind] += 1
    try:
        return call()
    except UserError as error:
        found = error
    check_line(str(found), *names)
    assert type(found) is not UserError
    return found


def check_line(message: str, *names: str) -> None:
    assert message
    assert not any(unicodedata.category(c)[0] == "C" for c in message), repr(message)
    assert not set(message) & {"\u2028", "\u2029"}
    assert any(name in message for name in names), f"{message!r} names none of {names}"
    assert "Traceback" not in message


@contextmanager
def nothing_stored(*roots: Path) -> Iterator[None]:
    """No file appears or changes below `roots` but caches, which hold no artifact; damaged ones may be set aside."""
    before = [_files(root) for root in roots]
    yield
    for old, new in zip(before, map(_files, roots), strict=True):
        assert sorted(old.values()) == sorted(new.values())
        assert all(name.endswith(".damaged") for name in new.keys() - old.keys())


def _files(root: Path) -> dict[str, tuple[int, int]]:
    found = {}
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name != ".cache"]
        for name in names:
            look = os.lstat(os.path.join(folder, name))
            found[os.path.join(folder, name)] = (look.st_size, look.st_mtime_ns)
    return found
