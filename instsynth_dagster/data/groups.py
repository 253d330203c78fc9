"""Groups of images that replace cities in data without them, and their split into train and val."""

from __future__ import annotations

import csv
import hashlib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from instsynth_dagster.errors import DatasetError
from instsynth_dagster.seeds import content_seed

_LONGEST = 60
FILE_COLUMN = "file"
"""Column of a table of groups that holds paths relative to the folder of images, or unique file names."""


def folder_groups(files: Sequence[str]) -> dict[str, str]:
    """The folder of each file (paths relative to the folder of images, with /)."""
    return {file: PurePosixPath(file).parent.as_posix().removeprefix(".") or "all" for file in files}


def name_groups(files: Sequence[str], pattern: str) -> dict[str, str]:
    """The part of each file's path that a regular expression captures.

    Raises:
        DatasetError: the pattern captures nothing in a path.
    """
    compiled = re.compile(pattern)
    groups = {}
    for file in files:
        found = compiled.search(file)
        text = found.group(1) if found and compiled.groups else None
        if not text:
            raise DatasetError(
                f"dataset.groups.pattern: {pattern!r} captures nothing of {file!r}; put what names the group in ( )"
            )
        groups[file] = text
    return groups


def table_groups(files: Sequence[str], table: Path, column: str) -> dict[str, str]:
    """The group of each file, from the column `column` of a CSV file that also has the column `file`.

    Raises:
        DatasetError: the table cannot be read, lacks a column, or does not list a file.
    """
    try:
        with table.open(newline="", encoding="utf-8-sig") as opened:
            reader = csv.DictReader(opened)
            missing = [name for name in (FILE_COLUMN, column) if name not in (reader.fieldnames or ())]
            if missing:
                raise DatasetError(f"{table}: has no column {missing[0]!r}")
            named = {row[FILE_COLUMN]: row[column] for row in reader}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{table}: cannot be read as CSV ({error})") from None
    groups = {}
    for file in files:
        text = named.get(file) or named.get(PurePosixPath(file).name)
        if not text:
            raise DatasetError(f"{table}: names no {column} for {file!r}; add a row")
        groups[file] = text
    return groups


def hash_groups(files: Sequence[str], buckets: int) -> dict[str, str]:
    """A bucket for each file, from a hash of its path."""
    return {file: f"part-{_bucket(file, buckets):0{len(str(buckets - 1))}}" for file in files}


def bounded(groups: Mapping[str, str], limit: int) -> dict[str, str]:
    """The groups unchanged, or, where there are more than `limit`, put into that many buckets; a group is never
    divided.
    """
    if len(set(groups.values())) <= limit:
        return dict(groups)
    width = len(str(limit - 1))
    return {file: f"part-{_bucket(group, limit):0{width}}" for file, group in groups.items()}


def _bucket(text: str, buckets: int) -> int:
    return int.from_bytes(hashlib.sha256(text.encode(errors="surrogateescape")).digest()[:8], "big") % buckets


def split_by_fraction(groups: Mapping[str, str], fraction: float, seed: int) -> dict[str, str]:
    """`train` or `val` for each group: whole groups, in an order drawn by the seed, until `fraction` of the files is
    val or the next group would leave none to train on.

    Raises:
        DatasetError: there is only one group.
    """
    sizes = Counter(groups.values())
    if len(sizes) < 2:
        raise DatasetError(
            f"dataset.split: all images are in the one group {next(iter(sizes), '')!r}, which cannot be divided; group "
            "them otherwise (dataset.groups)"
        )
    order = sorted(sizes, key=lambda group: content_seed("split", group, seed))
    wanted, taken = fraction * sum(sizes.values()), 0
    splits = dict.fromkeys(sizes, "train")
    for group in order[:-1]:
        # a group stays in train if adding it misses the fraction by more than leaving it out
        if taken and taken + sizes[group] - wanted > wanted - taken:
            continue
        if taken >= wanted:
            break
        splits[group] = "val"
        taken += sizes[group]
    return splits


def city_names(groups: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """A name usable as a partition key for each (split, group); without a collision it does not depend on other
    groups.
    """
    pairs = sorted(set(groups))
    splits_of = defaultdict(set)
    for split, group in pairs:
        splits_of[group].add(split)
    wanted = {
        (split, group): _slug(group) + (f"-{split}" if len(splits_of[group]) > 1 and split != "train" else "")
        for split, group in pairs
    }
    counts = Counter(wanted.values())
    return {
        pair: name if counts[name] == 1 else f"{name[: _LONGEST - 9]}-{_digest(f'{pair[0]}/{pair[1]}')}"
        for pair, name in wanted.items()
    }


def _slug(text: str) -> str:
    """Text reduced to a-z, 0-9, - and _."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9_]+", "-", plain).strip("-_")
    return slug[:_LONGEST].rstrip("-_") if slug else f"group-{_digest(text)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:8]
