"""What the body of an asset reported, kept with the partition, so that it can be told again."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from assets.shared.made import Check, Made, Markdown
from instsynth_dagster.artifacts.manifest import Manifest
from instsynth_dagster.artifacts.store import PartitionWriter, Store
from instsynth_dagster.artifacts.writer import PREVIEWS

REPORTED = "reported"
"""Entry of a manifest's summary: metadata and outcomes of checks."""
_INLINE = 2000
"""Characters of Markdown that the manifest itself holds; more, as a picture has, goes into a file."""


def keep(out: PartitionWriter, made: Made) -> None:
    """Keep what is reported with the partition: pictures and long texts in a folder, all else in the summary."""
    metadata = {name: _kept(out, name, value) for name, value in made.metadata.items()}
    told = {"metadata": metadata, "checks": [asdict(check) for check in made.checks]}
    # numbers of NumPy become those of JSON
    out.summary[REPORTED] = json.loads(json.dumps(told, default=lambda number: number.item()))


def reported(store: Store, manifest: Manifest) -> Made:
    """What was reported of a partition when it was made."""
    metadata = manifest.summary.get(REPORTED, {}).get("metadata", {})
    folder = Path()
    if PREVIEWS in manifest.folders:
        folder = store.folder(manifest.asset, manifest.partition, PREVIEWS)
    return Made({name: _told(value, folder) for name, value in metadata.items()}, outcomes(manifest))


def outcomes(manifest: Manifest) -> tuple[Check, ...]:
    """What the checks of a partition said when it was made."""
    kept = manifest.summary.get(REPORTED, {})
    return tuple(Check(**check) for check in kept.get("checks", []))


def _kept(out: PartitionWriter, name: str, value: Any) -> Any:
    if isinstance(value, Path):
        return {"path": str(value)}
    if not isinstance(value, Markdown):
        return value
    if len(value.text) <= _INLINE:
        return {"markdown": value.text}
    file = f"{name}.md"
    (out.folder(PREVIEWS) / file).write_text(value.text)
    return {"file": file}


def _told(value: Any, folder: Path) -> Any:
    match value:
        case {"path": path}:
            return Path(path)
        case {"markdown": text}:
            return Markdown(text)
        case {"file": file}:
            return Markdown((folder / file).read_text())
    return value
