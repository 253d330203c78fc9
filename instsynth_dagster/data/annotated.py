"""The common result of the readers of all annotation formats: images, categories, and objects as the files
define them.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from instsynth_dagster.data.rasterise import Segmentation
from instsynth_dagster.data.reading import is_image_name
from instsynth_dagster.errors import DatasetError, UnreadableError, is_transient


@dataclass(frozen=True)
class Category:
    """A category of the data set's own files; `id` is theirs, or a running number for formats that have names only."""

    id: int
    name: str
    supercategory: str | None = None
    has_instances: bool = True
    ignored: bool = False
    """Whether the format itself leaves it out of evaluation."""


@dataclass(frozen=True)
class AnnotatedObject:
    """An object, or a crowd of them, of a category (by id); pixels that the files mark as void have category None.

    `source_id` is the object's number in the files, None where it has none or where a number occurs twice.
    """

    category: int | None
    segmentation: Segmentation
    crowd: bool = False
    source_id: int | None = None


@dataclass
class AnnotatedImage:
    """An image, `file` relative to the folder of images (with /), and its objects in the order of the file.

    `width` and `height` are the size at which it is annotated, None where the format does not say. `split` is None
    where the files define no splits. `source_id` is as for objects.
    """

    file: str
    width: int | None = None
    height: int | None = None
    split: str | None = None
    objects: list[AnnotatedObject] = field(default_factory=list)
    source_id: int | None = None


@dataclass(frozen=True)
class Annotated:
    """A data set as its files define it, and the remarks of the reader, one sentence each.

    `unlabeled_is_void`: whether pixels outside all objects are void, as in formats that label every pixel; otherwise
    they are background.
    """

    categories: Sequence[Category]
    images: Sequence[AnnotatedImage]
    notes: Sequence[str] = ()
    unlabeled_is_void: bool = False


class ImageFolder:
    """The image files below a folder, links followed, and the lookup of names from annotation files among them.

    Args:
        within: name of the folders that hold the images, where there are other pictures below `root`; default: all.

    Raises:
        UnreadableError: it is no folder, or may not be listed.
        DatasetError: it holds no image.
    """

    def __init__(self, root: Path, within: str | None = None) -> None:
        self.root = root
        if not root.is_dir():
            raise UnreadableError(f"{root}: no such folder; check dataset.images")
        found = files_named(root, is_image_name)
        self.files = sorted(file for file in found if within is None or within in file.split("/")[:-1])
        if not self.files:
            raise DatasetError(f"{root}: no image in it; check dataset.images")
        self._exact = set(self.files)
        self._by_name: dict[str, list[str]] = defaultdict(list)
        self._folded: dict[str, list[str]] = defaultdict(list)
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        for file in self.files:
            path = PurePosixPath(file)
            self._by_name[path.name].append(file)
            self._folded[file.casefold()].append(file)
            for stem in {path.stem, str(path.with_suffix(""))}:
                self._by_stem[stem].append(file)

    def find(self, name: str) -> str | None:
        """The file that an annotation file calls `name`: that path, or the longest end of it that exists, or the only
        file of that name in any folder; None where there is none, or several.
        """
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
        if not parts:
            return None
        ends = ["/".join(parts[start:]) for start in range(len(parts))]
        for end in ends:
            if end in self._exact:
                return end
        for found in (self._folded.get(ends[0].casefold(), []), self._by_name.get(parts[-1], [])):
            if len(found) == 1:
                return found[0]
        return None

    def find_stem(self, stem: str) -> str | None:
        """The file with a name without suffix, with or without the folders above it; None where there is none, or
        several.
        """
        parts = stem.split("/")
        for start in range(len(parts)):
            found = self._by_stem.get("/".join(parts[start:]), [])
            if len(found) == 1:
                return found[0]
        return None


def files_named(root: Path, wanted: Callable[[str], bool]) -> Iterator[str]:
    """Paths, relative to a folder, of the files below it whose names satisfy `wanted`; links are followed, hidden
    folders left out.

    Raises:
        UnreadableError: a folder may not be listed.
    """
    seen: set[str] = set()

    def refused(error: OSError) -> None:
        if is_transient(error):
            raise error
        raise UnreadableError(f"{error.filename}: cannot be read ({error.strerror})")

    for place, folders, names in os.walk(root, followlinks=True, onerror=refused):
        real = os.path.realpath(place)
        if real in seen:  # a link back to a folder above
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(folder for folder in folders if not folder.startswith((".", "__MACOSX")))
        below = os.path.relpath(place, root).replace(os.sep, "/")
        for name in names:
            if wanted(name):
                yield name if below == "." else f"{below}/{name}"


def frame_ids(files: Sequence[str]) -> Mapping[str, str]:
    """A frame id for each file: its path without the suffix, or with it where two files differ in the suffix only."""
    stems = defaultdict(list)
    for file in files:
        stems[_plain(str(PurePosixPath(file).with_suffix("")))].append(file)
    names = {}
    for stem, same in stems.items():
        if len(same) == 1:
            names[same[0]] = stem
            continue
        for file in same:
            names[file] = _plain(file)
    if len(set(names.values())) < len(names):
        raise DatasetError("two image files differ only in ':' or '|' in their names; rename one of them")
    return names


def _plain(name: str) -> str:
    """A path without the characters that separate the parts of an instance id or of a partition key."""
    return name.replace(":", "_").replace("|", "_")
