"""The common base of all sections."""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from instsynth_dagster.errors import Reader, SettingsError, UndeclaredRead

T = TypeVar("T")


class Role(Enum):
    """The role of a setting, as a marker of its field: `Annotated[int, Role.INFERENCE]`. A field without a marker is
    part of the recipe by which an artifact is made.
    """

    RECIPE = "recipe"
    INFERENCE = "inference"
    """Read by what applies a trained model, and not by what trains it."""
    EXECUTION = "execution"
    """How, where and how fast something is made; never what comes out. It enters no fingerprint."""


def _each_once(values: tuple[T, ...]) -> tuple[T, ...]:
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{value!r} occurs twice")
    return values


Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=80)]
Distinct = Annotated[tuple[T, ...], AfterValidator(_each_once)]
Size = tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]]


class Section(BaseModel):
    """A section of the params file: frozen, without unknown keys.

    A section may be a view (`settings.view`) that holds only some of its fields; reading another one raises
    UndeclaredRead.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    _reader: Reader | None = PrivateAttr(None)
    _place: str = PrivateAttr("")

    if not TYPE_CHECKING:  # hidden from the type checker, which would accept any attribute name

        def __getattr__(self, name: str) -> Any:
            if name in type(self).model_fields:
                place = f"{self._place}.{name}".lstrip(".")
                raise UndeclaredRead(self._reader, f"params {place}", f"{place!r} to its `settings`")
            return super().__getattr__(name)

    def entries_for(self, name: str, uses: Collection[Role]) -> dict[str, Any] | None:
        """The entries of a field that is a plain dict whose roles are among `uses`; None for a field whose entries all
        have the role of the field.
        """
        return None


def refusal(error: ValidationError, place: str) -> SettingsError:
    """An error about the first invalid value, at its key below `place`."""
    problem = error.errors()[0]
    return SettingsError(
        f"{'.'.join(map(str, (place, *problem['loc'])))}: {problem['msg'].removeprefix('Value error, ')}"
    )


@cache
def role(section: type[BaseModel], name: str) -> Role:
    """The role of a field of a section, or of the model as which a section's dict is read."""
    marked = [marker for marker in section.model_fields[name].metadata if isinstance(marker, Role)]
    return marked[0] if marked else Role.RECIPE
