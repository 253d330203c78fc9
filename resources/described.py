"""Resources as the UI shows them: the purpose of each, and the settings from which it was built."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from instsynth_dagster.settings import Settings

_BUILT_FROM = {
    "store": {"artifacts"},
    "dataset": {"dataset"},
    "device": {"device", "workers"},
    "generators": {"generators"},
    "judge": {"judge"},
    "refining": {"refinement"},
    "prompting": {"prompt_bank"},
}
"""Sections of the params file by resource."""


def described(resources: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """Definitions that provide these objects; entries that are definitions already are unchanged."""
    return {
        name: _definition(resource, settings, _BUILT_FROM[name]) if name in _BUILT_FROM else resource
        for name, resource in resources.items()
    }


def _definition(resource: Any, settings: Settings, sections: set[str]) -> dg.ResourceDefinition:
    def hand_out(_: dg.InitResourceContext) -> Any:
        return resource

    kind = type(resource)
    hand_out.__name__, hand_out.__module__ = kind.__name__, kind.__module__  # the UI names a resource after these
    shown = settings.model_dump(mode="json", include=sections, exclude_none=True)
    # a list, because the UI removes four leading spaces from every line, which breaks YAML
    listed = "\n".join(f"- {place}: `{json.dumps(value, ensure_ascii=False)}`" for place, value in _leaves("", shown))
    return dg.ResourceDefinition(hand_out, description=f"{inspect.getdoc(kind)}\n\n{listed}".strip())


def _leaves(place: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Settings with their dotted paths."""
    if isinstance(value, dict):
        for name, below in value.items():
            yield from _leaves(f"{place}.{name}".lstrip("."), below)
    else:
        yield place, value
