"""The report of an asset's body, stored with the partition, so that it can be shown again."""

from __future__ import annotations

import base64
import json
import mimetypes
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from assets.shared.made import Check, Made, Markdown, Page
from instsynth_dagster.artifacts.manifest import Manifest, partition_folder
from instsynth_dagster.artifacts.store import PartitionWriter, Store
from instsynth_dagster.artifacts.writer import PREVIEWS

REPORTED = "reported"
"""Entry of a manifest's summary: metadata and outcomes of checks."""
SERVED_AT = "http://localhost:3001"
"""Address at which `make dev` serves files in the folders of a local store's partitions (`jobs.dev`)."""
_INLINE = 800
"""Most characters of Markdown in the manifest itself. The UI shows as many on the page of an asset, and longer texts
after a click."""
_OWN = re.compile(r"!\[([^\]]*)\]\(data:(image/[a-z+]+);base64,([^)]+)\)")
_KEPT = re.compile(r"!\[([^\]]*)\]\(([\w.-]+)\)")
"""A picture in Markdown with embedded data, and one that is stored as a file."""


def keep(out: PartitionWriter, made: Made) -> None:
    """Store the report with the partition: pictures and long texts in a folder, everything else in the summary."""
    metadata = {name: _kept(out, name, value) for name, value in made.metadata.items()}
    kept = {"metadata": metadata, "checks": [asdict(check) for check in made.checks]}
    # NumPy numbers become JSON numbers
    out.summary[REPORTED] = json.loads(json.dumps(kept, default=lambda number: number.item()))


def reported(store: Store, manifest: Manifest) -> Made:
    """The stored report of a partition. Pictures are links to files that `make dev` serves, or embedded where the store
    is not on this machine.
    """
    metadata = manifest.summary.get(REPORTED, {}).get("metadata", {})
    return Made({name: _restored(store, manifest, value) for name, value in metadata.items()}, outcomes(manifest))


def outcomes(manifest: Manifest) -> tuple[Check, ...]:
    """The stored outcomes of a partition's checks."""
    kept = manifest.summary.get(REPORTED, {})
    return tuple(Check(**check) for check in kept.get("checks", []))


def address(manifest: Manifest, page: Page) -> str:
    """URL at which `make dev` serves a file of a partition's folder. It includes the version of the partition, so that
    it never leads to another version, or to another project's partition.
    """
    own = next(file.path for file in manifest.folders[page.folder] if file.path.endswith(f"/{page.file}"))
    return f"{SERVED_AT}/{partition_folder(manifest.asset, manifest.partition)}/{own}"


def _kept(out: PartitionWriter, name: str, value: Any) -> Any:
    if isinstance(value, Path):
        return {"path": str(value)}
    if isinstance(value, Page):
        return {"page": [value.folder, value.file]}
    if not isinstance(value, Markdown):
        return value
    files = 0

    def into_file(picture: re.Match[str]) -> str:
        nonlocal files
        files += 1
        kind = mimetypes.guess_extension(picture[2], strict=False)
        file = f"{name}{files if files > 1 else ''}{kind}"
        (out.folder(PREVIEWS) / file).write_bytes(base64.b64decode(picture[3]))
        return f"![{picture[1]}]({file})"

    text = _OWN.sub(into_file, value.text)
    if len(text) <= _INLINE:
        return {"markdown": text}
    file = f"{name}.md"
    (out.folder(PREVIEWS) / file).write_text(text)
    return {"file": file}


def _restored(store: Store, manifest: Manifest, value: Any) -> Any:
    match value:
        case {"path": path}:
            return Path(path)
        case {"page": [folder, file]}:
            return Page(folder, file)
        case {"markdown": text}:
            return Markdown(_with_pictures(store, manifest, text))
        case {"file": file}:
            kept = store.folder(manifest.asset, manifest.partition, PREVIEWS) / file
            return Markdown(_with_pictures(store, manifest, kept.read_text()))
    return value


def _with_pictures(store: Store, manifest: Manifest, text: str) -> str:
    def shown(picture: re.Match[str]) -> str:
        if not store.storage.remote:
            url = address(manifest, Page(PREVIEWS, picture[2]))
            return f"[![{picture[1]}, which `make dev` serves]({url})]({url})"
        content = (store.folder(manifest.asset, manifest.partition, PREVIEWS) / picture[2]).read_bytes()
        kind = mimetypes.guess_type(picture[2], strict=False)[0]
        return f"![{picture[1]}](data:{kind};base64,{base64.b64encode(content).decode()})"

    return _KEPT.sub(shown, text)
