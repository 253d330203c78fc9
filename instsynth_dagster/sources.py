"""Where weights come from: a folder, or a hub repository that may be pinned to a revision."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from instsynth_dagster.checkpoint_digests import verified
from instsynth_dagster.errors import CheckpointError

OWN_LIBRARIES = ("diffusers", "transformers")
"""Whose classes a diffusers folder may ask for."""

_HUB_ID = re.compile(r"(?:[A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]*", re.ASCII)


def pretrained(source: str | Path) -> tuple[str, dict[str, Any]]:
    """Name and keywords for a `from_pretrained`.

    Args:
        source: `folder`, `folder@sha256:digest`, `owner/name` or `owner/name@revision`; a folder is never looked up on
            the hub.

    Raises:
        CheckpointError: the folder's content is not the one that is pinned or listed (see `checkpoint_digests`).
    """
    folder = verified(source)
    if folder is not None and not folder.is_dir():
        raise CheckpointError(f"{folder}: not a folder")
    if folder is not None:
        return str(folder), {"local_files_only": True, "revision": "main"}
    name, _, revision = str(source).partition("@")
    if not _HUB_ID.fullmatch(name):
        raise CheckpointError(f"{name}: no such folder, and no id of a model hub either (owner/name)")
    return name, {"local_files_only": False, "revision": revision or "main"}


def trained_folder(source: str | Path) -> Path:
    """A checkpoint folder of this project's own, its content checked.

    Raises:
        CheckpointError: it is not there, or its content is not the one that is pinned or listed.
    """
    folder = verified(source)
    if folder is None or not folder.is_dir():
        raise CheckpointError(f"{source}: no such folder")
    return folder


def pipeline_index(source: str | Path) -> dict[str, Any]:
    """The model_index.json of a diffusers folder or hub id.

    Raises:
        CheckpointError: it asks for code from elsewhere than diffusers and transformers.
        OSError, ValueError: it cannot be read.
    """
    from diffusers import DiffusionPipeline

    name, where = pretrained(source)
    index: dict[str, Any] = DiffusionPipeline.load_config(name, **where)
    if not isinstance(index.get("_class_name"), str):
        raise CheckpointError(f"{name}: model_index.json asks for a pipeline of its own code, which is not run")
    for part, asked in index.items():
        if isinstance(asked, list) and asked and asked[0] not in (None, *OWN_LIBRARIES):
            raise CheckpointError(
                f"{name}: model_index.json asks for {part} from {asked[0]!r}, which is not run; "
                f"only {' and '.join(OWN_LIBRARIES)} are"
            )
    return index


def whole_model(kind: Any, name: str, *, may_miss: tuple[str, ...] = (), **options: Any) -> Any:
    """`kind.from_pretrained` from safetensors; libraries fill up missing weights with random ones, this does not.

    Args:
        may_miss: beginnings of the names of weights that a checkpoint need not have.

    Raises:
        ValueError: the checkpoint lacks weights; further what the library raises.
    """
    model, report = kind.from_pretrained(name, use_safetensors=True, output_loading_info=True, **options)
    missing = sorted(key for key in report["missing_keys"] if not key.startswith(may_miss or ("\0",)))
    if missing:
        raise ValueError(f"its weights lack {missing[0]!r}")
    return model
