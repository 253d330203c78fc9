"""The record of a finished artifact partition: its content and what it was made from."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, Field, TypeAdapter
from pydantic_core import from_json

from instsynth_dagster.errors import ArtifactError

MANIFEST = "manifest.json"
_SEAL = "seal"
_LONGEST_NAME = 200
"""Bytes of a file name that file systems allow, with room for suffixes."""


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
    """The content of a finished partition: `digest` identifies it, `fingerprint` identifies everything that it was made
    from.

    `outside` maps directories that the partition wrote outside the store to their listing signatures. `components` are
    digests of the parts of the fingerprint, which show what changed when the fingerprint does not match any more.
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
        """The manifest of a JSON text.

        Raises:
            ValueError: the text is not a manifest, or its seal does not match its content.
        """
        raw = from_json(text)
        seal = raw.pop(_SEAL, None) if isinstance(raw, dict) else None
        manifest = _MANIFEST.validate_python(raw)
        if seal is not None and seal != manifest._seal():
            raise ValueError("the seal is broken")
        return manifest

    def to_json(self) -> bytes:
        """JSON text of the manifest with its seal, as bytes."""
        return json.dumps({**_MANIFEST.dump_python(self, mode="json"), _SEAL: self._seal()}, indent=1).encode()

    def _seal(self) -> str:
        """sha256 over the whole content of the manifest."""
        return hashlib.sha256(_MANIFEST.dump_json(self)).hexdigest()

    def files(self) -> Iterator[StoredFile]:
        """All files: parts, then the files of the folders."""
        yield from self.parts
        for files in self.folders.values():
            yield from files


_MANIFEST = TypeAdapter(Manifest)


def partition_folder(asset: str, partition: str) -> str:
    """Folder of a partition, relative to the store's root: `aachen|car` becomes `aachen/car`."""
    steps = [*asset.split("/"), *partition.split("|")]
    if not all(map(_is_name, steps)):
        raise ArtifactError(f"{asset}[{partition}]: not a usable artifact name")
    return "/".join(steps)


def _is_name(step: str) -> bool:
    return step not in ("", ".", "..") and not set(step) & {os.sep, "\\", "\0"} and len(step.encode()) < _LONGEST_NAME
