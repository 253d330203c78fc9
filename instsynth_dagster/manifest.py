"""The record of a finished artifact partition: what it holds and what it was made from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, Field, TypeAdapter

MANIFEST = "manifest.json"


def _below(path: str) -> str:
    steps = PurePosixPath(path).parts
    if not steps or path.startswith("/") or any(step in (".", "..") for step in steps) or "\\" in path or "\0" in path:
        raise ValueError(f"{path!r} leaves the partition")
    return path


RelativePath = Annotated[str, AfterValidator(_below)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True)
class StoredFile:
    """One file of a partition; `path` is relative to the partition's directory."""

    path: RelativePath
    bytes: Annotated[int, Field(ge=0)]
    sha256: Sha256


@dataclass(frozen=True)
class Manifest:
    """What a finished partition holds. `digest` names its content, `fingerprint` everything it was made from.

    `outside` maps directories that the partition wrote outside the store to their listing signatures; `components` are
    digests of the parts of the fingerprint, which tell what changed when it no longer fits.
    """

    asset: str
    partition: str
    fingerprint: Annotated[str, Field(pattern=r"^[0-9a-f]{16,64}$")]
    digest: Sha256
    rows: Annotated[int, Field(ge=0)]
    parts: tuple[StoredFile, ...]
    folders: dict[str, tuple[StoredFile, ...]]
    outside: dict[str, str]
    summary: dict[str, Any]
    wall_seconds: float
    device_seconds: float
    made_at: str
    versions: dict[str, str] = field(default_factory=dict)
    components: dict[str, str] = field(default_factory=dict)

    @classmethod
    def from_json(cls, text: str | bytes) -> Manifest:
        """Raises ValueError where the text is not a manifest."""
        return _MANIFEST.validate_json(text)

    def to_json(self) -> bytes:
        return _MANIFEST.dump_json(self, indent=1)

    def files(self) -> Iterator[StoredFile]:
        """Parts, then the files of the folders."""
        yield from self.parts
        for files in self.folders.values():
            yield from files


_MANIFEST = TypeAdapter(Manifest)
