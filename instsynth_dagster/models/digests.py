"""Digests of checkpoint folders: pins in params files, lists in SHA256SUMS, and inputs of fingerprints.

python -m instsynth_dagster.models.digests checkpoints                lists the folders below in SHA256SUMS
python -m instsynth_dagster.models.digests --pin <folder or file>     prints what to write in a params file
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from instsynth_dagster.artifacts.files import file_sha256, write_atomically
from instsynth_dagster.errors import CheckpointError, UserError
from instsynth_dagster.models.references import PIN, path_exists

if TYPE_CHECKING:
    from torch import nn

SUMS = "SHA256SUMS"
_ABOUT = (".md", ".png", ".jpg", ".jpeg")
"""Suffixes of files that describe a checkpoint; nothing is loaded from them."""
_LINE = re.compile(r"([0-9a-f]{64}) [ *](\S.*)")


def checkpoint_files(folder: Path) -> list[Path]:
    """Every file of a checkpoint folder, links followed, except cards, pictures and hidden files; sorted."""
    found = []
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in names if not name.startswith(".") and not name.endswith(_ABOUT)]
    return sorted(found)


def verified(source: str | Path) -> Path | None:
    """The folder or file that a source names, its content checked; None where the source is no path on this machine (a
    hub id).

    A pin, `<path>@sha256:<64 hex digits>`, is the sha256 of a file or the `content_digest` of a folder. A folder that
    is listed in the SHA256SUMS beside it must hold exactly the files of that list.

    Raises:
        CheckpointError: the content differs, or the pinned path is missing.
    """
    name, pinned, pin = str(source).rpartition(PIN) if PIN in str(source) else (str(source), "", "")
    path = Path(name)
    if not path_exists(path):
        if pinned:
            raise CheckpointError(f"{name}: missing; a pin by sha256 refers to a folder or file on disk")
        return None
    try:
        _verify(path, pin, _stamps(path))
    except OSError as error:
        raise CheckpointError(f"{error.filename}: cannot be read ({error.strerror})") from None
    return path


def content_digest(path: Path) -> str:
    """sha256 of a file, or of the sorted (relative path, sha256) of the files of a folder."""
    if path.is_file():
        return file_sha256(path)
    lines = [f"{file.relative_to(path).as_posix()}\0{file_sha256(file)}" for file in checkpoint_files(path)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """sha256 of a file, read once for each size and modification time."""
    look = path.stat()
    return _file_digest(path, look.st_size, look.st_mtime_ns)


@lru_cache(maxsize=256)
def _file_digest(path: Path, size: int, time: int) -> str:
    return file_sha256(path)


def _stamps(path: Path) -> tuple[tuple[str, int, int], ...]:
    files = [path.parent / SUMS, *([path] if path.is_file() else checkpoint_files(path))]
    looks = ((file, file.stat()) for file in files if file.exists())
    return tuple((str(file), look.st_size, look.st_mtime_ns) for file, look in looks)


@lru_cache(maxsize=64)
def _verify(path: Path, pin: str, stamps: tuple[tuple[str, int, int], ...]) -> None:
    """Check a folder or file once for each state of its sizes and modification times."""
    if pin and content_digest(path) != pin:
        raise CheckpointError(f"{path}: its content does not match the pin {PIN}{pin}; get it again")
    listed = _listed(path)
    if not listed:
        return
    remedy = f"restore it, or list it anew: python -m instsynth_dagster.models.digests {path.parent}"
    present = {file.relative_to(path.parent).as_posix(): file for file in checkpoint_files(path)}
    for name in sorted(present.keys() | listed.keys()):
        if name not in present:
            raise CheckpointError(f"{path.parent / name}: missing, {SUMS} lists it; {remedy}")
        if name not in listed:
            raise CheckpointError(f"{path.parent / name}: not in the list {SUMS}; {remedy}")
        if file_sha256(present[name]) != listed[name]:
            raise CheckpointError(f"{path.parent / name}: not the file that {SUMS} lists; {remedy}")


def _listed(path: Path) -> dict[str, str]:
    """sha256 by file, from the SHA256SUMS beside a folder."""
    sums = path.parent / SUMS
    if path.is_file() or not sums.is_file():
        return {}
    try:
        lines = sums.read_text().splitlines()
    except UnicodeDecodeError:
        raise CheckpointError(f"{sums}: not a list of digests") from None
    found = [_LINE.fullmatch(line) for line in lines]
    return {match[2]: match[1] for match in found if match and match[2].startswith(f"{path.name}/")}


def write_sums(checkpoints: Path) -> None:
    """List every checkpoint folder below in its SHA256SUMS, in the form that `sha256sum --check` reads."""
    folders = sorted(path for path in checkpoints.iterdir() if path.is_dir())
    files = [file for folder in folders for file in checkpoint_files(folder)]
    lines = [f"{file_sha256(file)}  {file.relative_to(checkpoints).as_posix()}\n" for file in files]
    write_atomically(checkpoints / SUMS, "".join(lines).encode())


def weights_digest(modules: Mapping[str, nn.Module]) -> str:
    """sha256 (hex) over names, dtypes, shapes and values of all tensors of the named modules."""
    import torch

    digest = hashlib.sha256()
    for name, module in sorted(modules.items()):
        for key, tensor in sorted(module.state_dict().items()):
            digest.update(f"{name}.{key}\0{tensor.dtype}{tuple(tensor.shape)}".encode())
            digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m instsynth_dagster.models.digests",
        description="List checkpoint folders in their SHA256SUMS, or print the pin of one.",
    )
    parser.add_argument("path", type=Path, help="a folder of checkpoint folders; with --pin a checkpoint")
    parser.add_argument("--pin", action="store_true", help="print <path>@sha256:<digest>")
    given = parser.parse_args(arguments)
    try:
        if not given.path.exists():
            raise CheckpointError(f"{given.path}: no such folder or file")
        if given.pin:
            print(f"{given.path}{PIN}{content_digest(given.path)}")
        else:
            write_sums(given.path)
    except UserError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
