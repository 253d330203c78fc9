"""A params file as plain values: strict YAML, without anything that may not be shown to others."""

from __future__ import annotations

import math
import re
import stat
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode, ScalarNode

from instsynth_dagster.errors import SettingsError, one_line

PARAMS_ENV = "INSTSYNTH_PARAMS"
_MOST_BYTES, _MOST_VALUES, _DEEPEST = 1 << 20, 20_000, 24
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
_URL_OF_USER = re.compile(r"[a-z][a-z0-9+.-]*://([^@\s]+)@", re.IGNORECASE)
_UNREADABLE = (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError, OverflowError)
"""Errors of PyYAML: its own, and Python's for impossible dates and numbers."""


def read_params(path: Path) -> dict[str, Any]:
    """The sections of a params file: mappings with text keys, lists, texts, finite numbers and booleans, nothing else.

    Raises:
        SettingsError: one line that names the file and the key: the file cannot be read, is not YAML, has a duplicate
            key, holds a value of another type or a URL with credentials, or is larger than any params file.
    """
    text = _read(path)
    try:
        raw = _Loader(text).get_single_data()
    except RecursionError:
        raise SettingsError(f"{path}: nested deeper than {_DEEPEST} levels") from None
    except _UNREADABLE as error:
        raise SettingsError(f"{path}: not valid YAML: {_problem(error)}") from None
    if not isinstance(raw, dict):
        raise SettingsError(f"{path}: expected a mapping of sections at the top level")
    try:
        _ValueCheck().check(raw, ())
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from None
    return raw


def _read(path: Path) -> str:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise SettingsError(f"{path}: not a file")
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise SettingsError(f"{path}: larger than {_MOST_BYTES} bytes; not a params file")
        return content.decode()
    except FileNotFoundError:
        raise SettingsError(f"{path}: no such params file; set {PARAMS_ENV} or run in the project root") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, with an error for duplicate keys, of which PyYAML takes the last."""

    def compose_mapping_node(self, anchor: Any) -> MappingNode:
        node: MappingNode = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, ScalarNode):
                if key.value in seen:
                    raise ConstructorError(None, None, f"the key {key.value!r} occurs twice", key.start_mark)
                seen.add(key.value)
        return node


def _problem(error: Exception) -> str:
    """Position and problem, without the line itself, which may hold a secret."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return place + one_line(str(problem or error or type(error).__name__))


class _ValueCheck:
    """Visits all values; aliases count each time, so that a small file cannot expand to a huge one."""

    def __init__(self) -> None:
        self._left = _MOST_VALUES

    def check(self, value: Any, place: tuple[str, ...]) -> None:
        key = ".".join(place)
        self._left -= 1
        if self._left < 0:
            raise SettingsError(f"{key}: the file holds more than {_MOST_VALUES} values")
        if len(place) > _DEEPEST:
            raise SettingsError(f"{'.'.join(place[:4])}: nested deeper than {_DEEPEST} levels")
        if isinstance(value, dict):
            for name, inner in value.items():
                if not isinstance(name, str):
                    raise SettingsError(f"{'.'.join((*place, str(name)))}: a key must be text; put it in quotes")
                _check_text(name, ".".join((*place, name)))
                self.check(inner, (*place, name))
        elif isinstance(value, list):
            for index, inner in enumerate(value):
                self.check(inner, (*place, str(index)))
        else:
            _check_scalar(value, key)


def _check_scalar(value: Any, key: str) -> None:
    if isinstance(value, str):
        _check_text(value, key)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise SettingsError(f"{key}: {value} is no finite number")
    elif isinstance(value, int):
        if abs(value) >= 1 << 63:
            raise SettingsError(f"{key}: the number has more than 63 bits")
    elif value is not None:
        raise SettingsError(f"{key}: a {type(value).__name__} is not understood; write text (in quotes) or a number")


def _holds_credentials(text: str) -> bool:
    """Whether a text begins with a URL that names a user, or a user and a password, which may hold slashes."""
    user = _URL_OF_USER.match(text)
    return user is not None and ("/" not in user[1] or ":" in user[1])


def _check_text(text: str, key: str) -> None:
    if _holds_credentials(text):
        shown = _URL_OF_USER.sub("...@", key) if _holds_credentials(key) else key
        raise SettingsError(
            f"{shown}: a URL with credentials in it; leave them out of the file and give them in the environment"
        )
    if _CONTROL.search(text):
        raise SettingsError(f"{key}: a control character in the text; remove it")
