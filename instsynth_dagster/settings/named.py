"""Checkpoints and sections of a kind in settings, found by their type."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from instsynth_dagster.settings.base import Section
from instsynth_dagster.settings.checkpoint import CheckpointRef
from instsynth_dagster.settings.kinds import ARCHITECTURE, Kinded, class_of_section, types_in
from instsynth_dagster.settings.view import entries


def checkpoints(settings: Any) -> dict[str, CheckpointRef]:
    """Every checkpoint that settings, or a view of them, name, by its dotted key: `segmenters.fastinst.backbone`."""
    found = ((place, CheckpointRef(value)) for place, value in _named(settings, "") if isinstance(value, str))
    return {place: ref for place, ref in found if ref}


def kinds(settings: Any) -> set[type[Kinded]]:
    """Settings classes of all sections of a kind in settings, or in a view of them."""
    return {found for _, found in _named(settings, "") if isinstance(found, type)}


Named = tuple[str, CheckpointRef | type[Kinded]]
"""A dotted key, and the checkpoint or the settings class of the section there."""


def _named(value: Any, place: str) -> Iterator[Named]:
    if isinstance(value, CheckpointRef):
        yield place, value
    elif isinstance(value, Section):
        model = None
        if isinstance(value, Kinded):
            yield place, type(value)
            model = value.architecture_model()
        for name, inner in value.__dict__.items():
            if name == ARCHITECTURE and model:
                yield from _by_type(inner, model, _at(place, name))
            else:
                yield from _named(inner, _at(place, name))
    elif isinstance(value, dict):
        for name, inner in entries(value).items():
            yield from _named(inner, _at(place, name))
    elif isinstance(value, tuple | list):
        for number, inner in enumerate(value):
            yield from _named(inner, _at(place, number))


def _by_type(values: Any, model: type[BaseModel], place: str) -> Iterator[Named]:
    """Checkpoints and kinds in a plain mapping that is yet to be read as a model."""
    if not isinstance(values, Mapping):
        return
    for name, inner in values.items():
        inside = model.architecture_model() if name == ARCHITECTURE and issubclass(model, Kinded) else None
        if inside:
            yield from _by_type(inner, inside, _at(place, name))
        elif name in model.model_fields:
            for wanted in types_in(model.model_fields[name].annotation):
                yield from _of_type(inner, wanted, _at(place, name))


def _of_type(value: Any, wanted: Any, place: str) -> Iterator[Named]:
    if isinstance(value, Section):
        yield from _named(value, place)
    elif wanted is CheckpointRef and isinstance(value, str | Path):
        yield place, CheckpointRef(str(value))
    elif isinstance(wanted, type) and issubclass(wanted, Kinded) and isinstance(value, Mapping):
        if found := class_of_section(wanted, value):
            yield place, found
            yield from _by_type(value, found, place)
    elif isinstance(wanted, type) and issubclass(wanted, BaseModel):
        yield from _by_type(value, wanted, place)


def _at(place: str, name: object) -> str:
    return f"{place}.{name}".lstrip(".")
