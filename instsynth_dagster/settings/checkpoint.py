"""References to checkpoints as a type of their own, so that all checkpoints in settings can be found by type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from instsynth_dagster.models.references import PIN, without_mark


class CheckpointRef(str):
    """A folder or file on disk, which `@sha256:<digest>` pins, or a hub id, which `@revision` pins; `+convert` allows
    the conversion of torch files.
    """

    __slots__ = ()

    @property
    def path(self) -> Path:
        """The folder or file, without pin and suffix; a hub id gives a path that does not exist."""
        return Path(without_mark(self)[0].partition(PIN)[0])

    @classmethod
    def _of(cls, value: str) -> CheckpointRef:
        return cls(value)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        named = core_schema.no_info_after_validator_function(cls._of, core_schema.str_schema())
        return core_schema.no_info_before_validator_function(
            _as_text, named, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )


def _as_text(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value
