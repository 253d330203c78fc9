"""Views of the settings: an asset can read exactly the settings that it declares, and these are hashed.

A declaration lists dotted paths: `selection`, `dataset.root`, `generators.*.replicas`, `segmenters.fastinst`. A path
may end with a use, `:recipe` or `:inference`, and then holds the fields of that role only, also in nested sections;
without a use it holds both. Fields of the role execution can be read in every section on a path, and are never hashed.
A dict that is yet to be read as a model (`architecture`) is held entry by entry, and so are sections inside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic_core import to_jsonable_python

from instsynth_dagster.errors import Reader, UndeclaredRead
from instsynth_dagster.settings.base import Role, Section, role

S = TypeVar("S", bound=Section)

KIND = "kind"
"""The field that selects the settings class of a section; it belongs to every use."""

_ALL = frozenset({Role.RECIPE, Role.INFERENCE})


@dataclass
class _Wanted:
    """Declared paths as a tree: the uses under which a place is read as a whole, and the paths inside it."""

    uses: frozenset[Role] = frozenset()
    inside: dict[str, _Wanted] = field(default_factory=dict)

    def add(self, steps: list[str], uses: frozenset[Role]) -> None:
        if not steps:
            self.uses |= uses
            return
        self.inside.setdefault(steps[0], _Wanted()).add(steps[1:], uses)

    def at(self, name: str) -> _Wanted:
        """The declared paths inside an entry of a dict: those under its name, and those under `*`."""
        found = _Wanted(self.uses)
        for key in (name, "*"):
            if key in self.inside:
                found = found.united(self.inside[key])
        return found

    def united(self, other: _Wanted) -> _Wanted:
        inside = {
            name: self.inside.get(name, _Wanted()).united(other.inside.get(name, _Wanted()))
            for name in {**self.inside, **other.inside}
        }
        return _Wanted(self.uses | other.uses, inside)

    def __bool__(self) -> bool:
        return bool(self.uses or self.inside)


_NOTHING = _Wanted()


class _Entries(dict[str, Any]):
    """Some entries of a dict; asking for another one, or for their list, raises UndeclaredRead."""

    def __init__(self, entries: Mapping[str, Any], reader: Reader | None, place: str) -> None:
        super().__init__(entries)
        self.held = dict(entries)
        self._reader, self._place = reader, place

    def _refuse(self, name: str) -> UndeclaredRead:
        place = f"{self._place}.{name}"
        return UndeclaredRead(self._reader, f"params {place}", f"{place!r} to its `settings`")

    def __missing__(self, name: str) -> Any:
        raise self._refuse(name)

    def get(self, name: str, default: Any = None) -> Any:
        return self[name]

    def __contains__(self, name: object) -> bool:
        return self[str(name)] is not None

    def __iter__(self) -> Iterator[str]:
        raise self._refuse("*")

    def __len__(self) -> int:
        raise self._refuse("*")

    def __bool__(self) -> bool:
        raise self._refuse("*")

    def keys(self) -> Any:
        raise self._refuse("*")

    values = items = keys


def view(settings: S, paths: Iterable[str], reader: Reader | None = None) -> S:
    """The part of the settings that `paths` declare.

    Raises:
        ValueError: a path does not exist in the settings.
    """
    wanted = _Wanted()
    for path in paths:
        place, _, use = path.partition(":")
        wanted.add(place.split("."), frozenset({Role(use)}) if use else _ALL)
    return _section(settings, wanted, reader, "")


def _section(section: S, wanted: _Wanted, reader: Reader | None, place: str) -> S:
    fields = type(section).model_fields
    if unknown := wanted.inside.keys() - fields.keys():
        raise ValueError(f"no such setting: {place}.{min(unknown)}".replace(": .", ": "))
    held = {}
    for name, value in section.__dict__.items():
        of_field = wanted.inside.get(name, _NOTHING)
        known = role(type(section), name)
        if wanted.uses and wanted.uses != _ALL:
            execution = {Role.EXECUTION} if Role.RECIPE in wanted.uses else set()
            if (some := section.entries_for(name, wanted.uses | execution)) is not None:
                held[name] = some
                continue
        if known is Role.EXECUTION or name == KIND:
            of_field = _Wanted(_ALL)
        elif known in wanted.uses:
            of_field = of_field.united(_Wanted(wanted.uses))
        if of_field:
            held[name] = _value(value, of_field, reader, f"{place}.{name}".lstrip("."))
    if len(held) == len(fields) and all(held[name] is section.__dict__[name] for name in fields):
        return section
    return _partial(section, held, reader, place)


def _partial(section: S, held: Mapping[str, Any], reader: Reader | None, place: str) -> S:
    part = section.model_copy()  # no validation: some required fields may be missing on purpose
    part.__dict__.clear()
    part.__dict__.update(held)
    object.__setattr__(part, "__pydantic_fields_set__", section.model_fields_set & held.keys())
    object.__setattr__(part, "__pydantic_private__", {"_reader": reader, "_place": place})
    return part


def _value(value: Any, wanted: _Wanted, reader: Reader | None, place: str) -> Any:
    if isinstance(value, Section):
        return _section(value, wanted, reader, place)
    if isinstance(value, dict) and (wanted.inside or any(isinstance(inner, Section) for inner in value.values())):
        named = wanted.inside.keys() - {"*"}
        if unknown := named - value.keys():
            raise ValueError(f"no such setting: {place}.{min(unknown)}")
        parts = {
            name: _value(inner, inside, reader, f"{place}.{name}")
            for name, inner in value.items()
            if (inside := wanted.at(name))
        }
        whole = wanted.uses or "*" in wanted.inside
        return parts if whole else _Entries(parts, reader, place)
    if wanted.inside and value is not None:
        raise ValueError(f"no such setting: {place}.{min(wanted.inside)}")
    return value


def entries(values: dict[str, Any]) -> dict[str, Any]:
    """The entries of a dict in a view that are held."""
    return values.held if isinstance(values, _Entries) else values


def hashed(value: Any) -> Any:
    """The JSON values of a view without the fields of the role execution."""
    if isinstance(value, Section):
        found = {}
        for name, inner in value.__dict__.items():
            if role(type(value), name) is not Role.EXECUTION:
                some = value.entries_for(name, _ALL)
                found[name] = hashed(inner if some is None else some)
        return found
    if isinstance(value, _Entries):
        return {name: hashed(inner) for name, inner in value.held.items()}
    if isinstance(value, dict) and any(isinstance(inner, Section) for inner in value.values()):
        return [[name, hashed(inner)] for name, inner in value.items()]  # their order is that of the rows of tables
    return to_jsonable_python(value)
