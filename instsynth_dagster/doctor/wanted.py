"""The models that settings name, and how each is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from instsynth_dagster.models.digests import CHECKPOINT_KEYS
from instsynth_dagster.settings import Settings

_ONLY_SMALL = ("tokenizer",)
_PIPELINES = ("generators",)


@dataclass(frozen=True)
class Wanted:
    """A model by its key in the params file.

    `pipeline` is the kind of the generator that it drives, or "" for any other model; `weights` are digests that its
    files must have.
    """

    key: str
    source: str
    variant: str | None = None
    pipeline: str = ""
    with_weights: bool = True
    weights: Mapping[str, str] = field(default_factory=dict)


def wanted_models(settings: Settings) -> Iterator[Wanted]:
    """Every folder and hub id in the settings, each once."""
    seen: set[tuple[str, str | None, bool]] = set()
    for wanted in _below("", settings.model_dump()):
        name = wanted.source, wanted.variant, wanted.with_weights
        if name not in seen:
            seen.add(name)
            yield wanted


def _below(place: str, values: Any) -> Iterator[Wanted]:
    if isinstance(values, dict):
        for key, value in values.items():
            if key in CHECKPOINT_KEYS and isinstance(value, str) and value:
                yield _wanted(place, key, value, values)
            else:
                yield from _below(f"{place}.{key}" if place else str(key), value)
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _below(place, value)


def _wanted(place: str, key: str, source: str, section: Mapping[str, Any]) -> Wanted:
    drives = key == "model" and place.partition(".")[0] in _PIPELINES
    return Wanted(
        key=f"{place}.{key}" if place else key,
        source=source,
        variant=section.get("variant") if drives else None,
        pipeline=str(section["kind"]) if drives else "",
        with_weights=key not in _ONLY_SMALL,
        weights=section.get("weights") or {} if drives else {},
    )
