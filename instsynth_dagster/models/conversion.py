"""Conversion of torch files to safetensors, once, beside the cache of the model hub; no pickle is ever executed.

python -m instsynth_dagster.models.conversion <folder or hub id> [--variant fp16]     prints the converted folder
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instsynth_dagster.artifacts.files import file_sha256
from instsynth_dagster.errors import CheckpointError, UserError, reason, what_happened
from instsynth_dagster.models.digests import file_digest
from instsynth_dagster.models.weight_files import SAFE, TORCH, needed, weights_by_part

if TYPE_CHECKING:
    from torch import Tensor

NOTE = "conversion.json"
"""File of a converted folder with the sha256 of every torch file and of the safetensors made from it."""


def torch_files(names: Sequence[str], variant: str | None = None, parts: Collection[str] | None = None) -> list[str]:
    """The torch files among those that a loader would read from a checkpoint; `parts` as in `needed`."""
    found = weights_by_part(names, variant, parts)
    return [name for part in found.values() if part and part.kind == TORCH for name in part.files]


def converted_folder(folder: Path, files: Sequence[str]) -> Path:
    """Path of the conversion of a folder, whether or not it exists: beside the hub's cache, by the content of its torch
    files.
    """
    from huggingface_hub import constants

    content = hashlib.sha256("\n".join(f"{name}\0{file_digest(folder / name)}" for name in sorted(files)).encode())
    return Path(constants.HF_HUB_CACHE).parent / "converted" / f"{_name(folder)}-{content.hexdigest()[:16]}"


def converted(
    folder: Path, names: Sequence[str], variant: str | None = None, parts: Collection[str] | None = None
) -> Path:
    """A folder with the same files, but safetensors in place of torch files; made unless it exists.

    Args:
        names: files of `folder`, relative to it.
        parts: folders of a pipeline to convert; default: all that are ever loaded.

    Raises:
        CheckpointError: a torch file holds more than tensors, or the disk refuses.
    """
    files = torch_files(names, variant, parts)
    goal = converted_folder(folder, files)
    if (goal / NOTE).is_file():
        return goal
    goal.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f"{goal.name}.", dir=goal.parent))
    try:
        _fill(work, folder, needed(names, variant, parts), files)
        os.rename(work, goal)
    except OSError as error:
        if not (goal / NOTE).is_file():  # otherwise another process has finished it first
            raise CheckpointError(f"{goal}: {what_happened(error) or error.strerror}") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return goal


def _fill(work: Path, folder: Path, names: Sequence[str], files: Sequence[str]) -> None:
    made: dict[str, dict[str, str]] = {}
    for name in names:
        source, target = folder / name, work / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if name in files:
            target = work / safe_name(name)
            save_tensors(read_tensors(source), target)
            made[name] = {"sha256": file_digest(source), "to": safe_name(name), "to_sha256": file_sha256(target)}
        elif f".{TORCH}.index." in name:
            index = json.loads(source.read_text())
            index["weight_map"] = {key: safe_name(shard) for key, shard in index["weight_map"].items()}
            (work / safe_name(name)).write_text(json.dumps(index))
        else:
            _take(source.resolve(), target)
    (work / NOTE).write_text(json.dumps({"files": made}, indent=1))


def _take(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copyfile(source, target)


def safe_name(name: str) -> str:
    """The name under which transformers and diffusers look for the safetensors of a torch file or of its index."""
    place, _, file = name.rpartition("/")
    renamed = file.replace("diffusion_pytorch_model", "\0").replace("pytorch_model", "model")
    renamed = renamed.replace("\0", "diffusion_pytorch_model").replace(f".{TORCH}", f".{SAFE}")
    return f"{place}/{renamed}" if place else renamed


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a torch file, read with `weights_only=True`.

    Raises:
        CheckpointError: it is damaged, or holds anything except named tensors.
    """
    import torch

    try:
        mapped = zipfile.is_zipfile(path)
        found: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # torch raises nearly any error on a damaged file
        raise CheckpointError(f"{path}: not a file of tensors only; no code in it was run: {reason(error)}") from None
    if isinstance(found, Mapping) and set(found) == {"state_dict"}:
        found = found["state_dict"]
    if not isinstance(found, Mapping) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise CheckpointError(f"{path}: holds more than named tensors")
    return {str(name): value for name, value in found.items()}


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors; safetensors requires each to be contiguous and in its own memory."""
    import torch
    from safetensors.torch import save_file

    seen: set[int] = set()
    whole = {}
    for name, value in tensors.items():
        place = value.untyped_storage().data_ptr()
        shares = place in seen or value.untyped_storage().nbytes() != value.numel() * value.element_size()
        whole[name] = value.clone(memory_format=torch.contiguous_format) if shares else value.contiguous()
        seen.add(place)
    save_file(whole, path, metadata={"format": "pt"})


def _name(folder: Path) -> str:
    """A readable name: that of the repository for a snapshot of the hub's cache."""
    repository = folder.parent.parent.name
    return repository.removeprefix("models--") if folder.parent.name == "snapshots" else folder.resolve().name


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m instsynth_dagster.models.conversion",
        description="Convert the torch files of a model folder or hub id to safetensors, and print where they lie.",
    )
    parser.add_argument("source", help="a folder, or owner/name[@revision]")
    parser.add_argument("--variant", help="of a hub id's files, as fp16")
    given = parser.parse_args(arguments)
    from instsynth_dagster.models.references import CONVERT
    from instsynth_dagster.models.sources import pretrained

    try:
        print(pretrained(f"{given.source.removesuffix(CONVERT)}{CONVERT}", variant=given.variant)[0])
    except UserError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
