"""Sections of several kinds, each with a settings class of its own.

A settings class is defined in a module that imports no model library, beside or in the file of its implementation:

    class FastInstSettings(SegmenterSettings):
        kind: Literal["fastinst"]
        IMPLEMENTATION = "instsynth_dagster.segmenters.fastinst.segmenter:FastInstSegmenter"

Validating the base class reads `kind` and gives an instance of the class for that kind.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from importlib import import_module
from typing import Any, ClassVar, Literal, Self, cast, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, model_validator

from instsynth_dagster.settings.base import Role, Section, role

MODULES = (
    "instsynth_dagster.segmenters.kinds",
    "instsynth_dagster.synthesis.generators.kinds",
)
"""Modules that define settings classes of kinds. A kind in a file of its own adds a line."""

ARCHITECTURE = "architecture"
"""The field of a section of a kind that holds the values of its model's configuration."""


class Kinded(Section):
    """Base of sections of several kinds."""

    model_config = ConfigDict(
        polymorphic_serialization=True
    )  # a field of the base class also serialises the fields that a kind adds

    IMPLEMENTATION: ClassVar[str] = ""
    """Module and class, "module:Class", of what the kind configures; imported when it is first asked for."""
    ARCHITECTURE: ClassVar[str] = ""
    """Module and class of the pydantic model that the kind's `architecture` is read as, where it has one."""
    CODE_VERSION: ClassVar[str] = "1"
    """Raised when the same settings and data give another result: what this kind makes becomes stale."""

    kind: str

    @classmethod
    def implementation(cls) -> Any:
        """The class that the kind configures. A kind whose settings and implementation share a file may override this
        method.
        """
        return _imported(cls.IMPLEMENTATION)

    @classmethod
    def architecture_model(cls) -> type[BaseModel] | None:
        """The model as which `architecture` is read; None where a library reads it."""
        return cast(type[BaseModel], _imported(cls.ARCHITECTURE)) if cls.ARCHITECTURE else None

    def entries_for(self, name: str, uses: Collection[Role]) -> dict[str, Any] | None:
        """The entries of `architecture` with these roles, by the fields of the model as which it is read."""
        model = self.architecture_model() if name == ARCHITECTURE else None
        return _chosen(self.__dict__[name], model, uses) if model else None

    @classmethod
    def own_kinds(cls) -> tuple[str, ...]:
        """The kinds of this settings class; empty for a base class."""
        annotation = cls.model_fields["kind"].annotation
        return get_args(annotation) if get_origin(annotation) is Literal else ()

    @classmethod
    def kinds(cls) -> dict[str, type[Self]]:
        """Settings classes of this section by kind, sorted."""
        named = (value for module in MODULES for value in vars(import_module(module)).values())
        classes = (value for value in named if isinstance(value, type) and issubclass(value, cls))
        return dict(sorted({kind: found for found in classes for kind in found.own_kinds()}.items()))

    @model_validator(mode="wrap")
    @classmethod
    def _by_kind(cls, values: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(values, dict):
            return validate(values)
        if cls.own_kinds():
            cls._refuse_settings_of_other_kinds(values)
            return validate(values)
        known, kind = cls.kinds(), values.get("kind")
        if kind is None:
            raise ValueError(f"kind is missing; known are {', '.join(known)}")
        if not isinstance(kind, str) or kind not in known:
            raise ValueError(f"kind {kind!r} is unknown; known are {', '.join(known)}")
        return known[kind].model_validate(values)

    @classmethod
    def _refuse_settings_of_other_kinds(cls, values: dict[str, Any]) -> None:
        section = next(base for base in reversed(cls.__mro__) if issubclass(base, Kinded) and base is not Kinded)
        for name in values.keys() - cls.model_fields.keys():
            owners = [kind for kind, other in section.kinds().items() if name in other.model_fields]
            if owners:
                raise ValueError(f"{name} belongs to kind {' or '.join(owners)}, not to {values['kind']}; remove it")


def class_of_section(annotation: Any, value: Any) -> type[Kinded] | None:
    """The settings class as which a field of this type reads a mapping; None where it takes no section of a kind."""
    if isinstance(value, Mapping):
        for wanted in types_in(annotation):
            if isinstance(wanted, type) and issubclass(wanted, Kinded):
                return wanted.kinds().get(str(value.get("kind")))
    return None


def types_in(annotation: Any) -> Iterator[Any]:
    """An annotation, or every type in it."""
    inside = get_args(annotation)
    if not inside:
        yield annotation
    for inner in inside:
        yield from types_in(inner)


def _chosen(values: Mapping[str, Any], model: type[BaseModel], uses: Collection[Role]) -> dict[str, Any]:
    """Entries, with roles among `uses`, of a mapping that is yet to be read as `model`.

    An entry that is itself a section of a kind, such as the detector of MaskDiff, is divided in the same way. Its
    `kind` goes with whatever is left of it.
    """
    found = {}
    for name, value in values.items():
        field = model.model_fields.get(name)
        if name == ARCHITECTURE and issubclass(model, Kinded):
            inner = model.architecture_model()
        else:
            inner = class_of_section(field.annotation, value) if field else None
        if inner:
            if (part := _chosen(value, inner, uses)) or Role.RECIPE in uses:
                found[name] = part
        elif (role(model, name) if field else Role.RECIPE) in uses:
            found[name] = value
    if found and issubclass(model, Kinded):
        found["kind"] = values["kind"]
    return found


def _imported(place: str) -> Any:
    module, name = place.split(":")
    return getattr(import_module(module), name)
