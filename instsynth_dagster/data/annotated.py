"""What the readers of all annotation formats give: images, categories, and the objects in them as the files tell it."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from instsynth_dagster.data.rasterise import Segmentation
from instsynth_dagster.data.reading import is_image_name
from instsynth_dagster.errors import DatasetError, UnreadableError, is_transient


@dataclass(frozen=True)
class Category:
    """A category of the data set's own files; `id` is theirs, or a running number where they have names only."""

    id: int
    name: str
    supercategory: str | None = None
    has_instances: bool = True


@dataclass(frozen=True)
class AnnotatedObject:
    """An object, or a crowd of them, of a category (by id)."""

    category: int
    segmentation: Segmentation
    crowd: bool = False


@dataclass
class AnnotatedImage:
    """An image, `file` below the folder of images (with /), and its objects in the order of the file.

    `width` and `height` are those that it is annotated at, None where the format does not tell. `split` is None where
    the files divide nothing.
    """

    file: str
    width: int | None = None
    height: int | None = None
    split: str | None = None
    objects: list[AnnotatedObject] = field(default_factory=list)


@dataclass(frozen=True)
class Annotated:
    """A data set as a format tells it, and what the reader noticed on the way, one sentence each."""

    categories: Sequence[Category]
    images: Sequence[AnnotatedImage]
    notes: Sequence[str] = ()


class ImageFolder:
    """The image files below a folder, links followed, and which of them an annotation file means.

    Raises:
        UnreadableError: it is no folder, or may not be listed.
        DatasetError: it holds no image.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        if not root.is_dir():
            raise UnreadableError(f"{root}: no such folder; check dataset.images")
        self.files = sorted(_image_files(root))
        if not self.files:
            raise DatasetError(f"{root}: no image in it; check dataset.images")
        self._exact = set(self.files)
        self._by_name: dict[str, list[str]] = defaultdict(list)
        self._folded: dict[str, list[str]] = defaultdict(list)
        for file in self.files:
            self._by_name[PurePosixPath(file).name].append(file)
            self._folded[file.casefold()].append(file)

    def find(self, name: str) -> str | None:
        """The file that an annotation file calls `name`: that path, or the longest end of it that there is, or the one
        file of that name in any folder; None where there is none, or several."""
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
        ends = ["/".join(parts[start:]) for start in range(len(parts))]
        for end in ends:
            if end in self._exact:
                return end
        for found in (self._folded.get(ends[0].casefold(), []) if ends else [], self._by_name.get(parts[-1], [])):
            if len(found) == 1:
                return found[0]
        return None


def _image_files(root: Path) -> Iterator[str]:
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
            if is_image_name(name):
                yield name if below == "." else f"{below}/{name}"


def frame_ids(files: Sequence[str]) -> Mapping[str, str]:
    """A name for each file: its path without the suffix, with it where two files differ in nothing else."""
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
    """A path without what separates the parts of an instance id or of a partition."""
    return name.replace(":", "_").replace("|", "_")
