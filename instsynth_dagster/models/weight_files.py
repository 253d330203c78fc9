"""The weight files of a checkpoint, by their names as transformers and diffusers write them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

SAFE, TORCH = "safetensors", "bin"
NEVER_LOADED = ("safety_checker", "feature_extractor", "image_encoder")
"""Parts of diffusers pipelines that this project never uses."""

INDEX = "model_index.json"
"""File that lists the parts of a diffusers pipeline."""

_STEMS = "diffusion_pytorch_model|pytorch_model|pytorch_lora_weights|model"
_WEIGHTS = re.compile(
    rf"(?P<stem>{_STEMS})(\.(?P<variant>\w+?))?(?P<shard>-\d{{5}}-of-\d{{5}})?(\.(?P<late>\w+?))?\.(?P<kind>{SAFE}|{TORCH})"
)
_SMALL = (".json", ".txt", ".model", ".jinja")
"""Endings of configurations, indices of shards and tokenizers."""


@dataclass(frozen=True)
class Weights:
    """The weights of one folder of a checkpoint: names relative to the checkpoint, their kind and variant."""

    files: tuple[str, ...]
    kind: str
    variant: str | None


def part_folders(names: Iterable[str]) -> set[str]:
    """Folders of a checkpoint that a loader may read: "" for the files at its top, and the parts of a pipeline."""
    names = list(names)
    if INDEX not in names:
        return {""}
    folders = {str(PurePosixPath(name).parent) for name in names if name.count("/") == 1}
    return {folder for folder in folders if folder not in NEVER_LOADED}


def weights_of(names: Iterable[str], folder: str, variant: str | None = None) -> Weights | None:
    """The weights that a loader reads from a folder; None where it has none.

    Safetensors come before torch files, those of `variant` before those without one. Other variants are never read.
    """
    found: dict[tuple[str, str | None], list[str]] = {}
    for name in sorted(names):
        place, _, file = name.rpartition("/")
        match = _WEIGHTS.fullmatch(file) if place == folder else None
        if match:
            found.setdefault((match["kind"], match["variant"] or match["late"]), []).append(name)
    wanted = [variant, None] if variant else [None]
    for kind in (SAFE, TORCH):
        for one in wanted:
            if files := found.get((kind, one)):
                return Weights(tuple(files), kind, one)
    return None


def needed(
    names: Collection[str],
    variant: str | None = None,
    parts: Collection[str] | None = None,
    with_weights: bool = True,
) -> list[str]:
    """Names of the files that loading a checkpoint reads: small files and one set of weights for each part.

    Args:
        parts: folders of the pipeline that are read; default: all that are ever loaded.
    """
    folders = part_folders(names)
    if parts is not None and INDEX in names:
        folders &= set(parts)
    chosen = [name for name in names if name == INDEX]
    for folder in sorted(folders):
        own = [name for name in names if name.rpartition("/")[0] == folder]
        weights = weights_of(own, folder, variant) if with_weights else None
        chosen += [name for name in own if name.endswith(_SMALL)]
        chosen += weights.files if weights else ()
    return sorted(set(chosen))


def weights_by_part(
    names: Collection[str], variant: str | None = None, parts: Collection[str] | None = None
) -> Mapping[str, Weights | None]:
    """The weights of each folder that needs some, because it holds a `config.json`; None where they are missing."""
    folders = part_folders(names)
    if parts is not None and INDEX in names:
        folders &= set(parts)
    found = {folder: weights_of(names, folder, variant) for folder in sorted(folders)}
    return {
        folder: weights
        for folder, weights in found.items()
        if weights or (f"{folder}/config.json" if folder else "config.json") in names
    }
