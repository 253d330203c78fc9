"""The common part of readers of annotation formats: resolving image files, counting what is left out, and notes about
it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from instsynth_dagster.data.annotated import Annotated, AnnotatedImage, AnnotatedObject, Category, ImageFolder
from instsynth_dagster.data.reading import MAX_PIXELS
from instsynth_dagster.errors import DatasetError


class Collected:
    """Images and objects that a reader finds in annotation files, with counts of what is left out.

    Args:
        folder: folder of the images.
    """

    def __init__(self, folder: ImageFolder) -> None:
        self.folder = folder
        self._images: dict[str, AnnotatedImage] = {}
        self._counts: Counter[str] = Counter()
        self._sentences: dict[str, str] = {}
        self._known: set[int] = set()
        self._ids: Counter[str] = Counter()

    def note(self, kind: str, sentence: str, count: int = 1) -> None:
        """Count something that is noted about the data; `sentence` follows the number."""
        self._counts[kind] += count
        self._sentences.setdefault(kind, sentence)

    def image(
        self,
        annotation_file: Path,
        name: str,
        split: str | None = None,
        size: tuple[int | None, int | None] = (None, None),
        source_id: Any = None,
    ) -> AnnotatedImage | None:
        """The image that an annotation file calls `name`; None, and counted, where it is not below the folder.

        Args:
            annotation_file: for error messages.
            size: (width, height) at which it is annotated.

        Raises:
            DatasetError: it is in two splits, or has two sizes.
        """
        return self._add(annotation_file, self.folder.find(name), split, size, source_id)

    def image_of_stem(
        self,
        annotation_file: Path,
        stem: str,
        split: str | None = None,
        size: tuple[int | None, int | None] = (None, None),
    ) -> AnnotatedImage | None:
        """The image with a name without its suffix; otherwise as `image`."""
        return self._add(annotation_file, self.folder.find_stem(stem), split, size, None)

    def _add(
        self,
        annotation_file: Path,
        file: str | None,
        split: str | None,
        size: tuple[int | None, int | None],
        source_id: Any,
    ) -> AnnotatedImage | None:
        if file is None:
            self.note("image missing", "images of the annotation files are not below the folder and are left out")
            return None
        if (size[0] or 0) * (size[1] or 0) > MAX_PIXELS:
            raise DatasetError(
                f"{annotation_file}: {file!r} is annotated at {size[0]}x{size[1]}, at most {MAX_PIXELS} pixels are read"
            )
        image = AnnotatedImage(file, *size, split, source_id=_number(source_id))
        known = self._images.setdefault(file, image)
        if known.split != split:
            raise DatasetError(
                f"{annotation_file}: {file!r} stands in {known.split} and in {split}; an image belongs to one"
            )
        if (known.width, known.height) != (image.width, image.height):
            raise DatasetError(f"{annotation_file}: {file!r} is listed with two sizes")
        if known is not image:
            self.note("file twice", "images have several ids; their objects are joined")
        return known

    def add(
        self,
        image: AnnotatedImage | None,
        category: int | None,
        segmentation: Any,
        crowd: bool = False,
        source_id: Any = None,
    ) -> None:
        """Add an object; one without a mask, and an exact copy of another, are left out and counted.

        Args:
            image: None for a missing image; the object is ignored without being counted.
            category: by its id; None for void.
            segmentation: COCO's; a single polygon may stand without a list around it.
        """
        if image is None:
            return
        segmentation = _segmentation(segmentation)
        if segmentation is None:
            self.note("box", "annotations have no mask, or only a box, and are left out")
            return
        content = hash((image.file, category, json.dumps(segmentation, sort_keys=True, default=str)))
        if content in self._known:
            self.note("copies", "annotations are exact copies of others of their image and are left out")
            return
        self._known.add(content)
        if source_id is not None:
            self._ids[str(source_id)] += 1
        image.objects.append(AnnotatedObject(category, segmentation, crowd, _number(source_id)))

    def annotated(
        self, files: Sequence[Path], categories: Sequence[Category], unlabeled_is_void: bool = False
    ) -> Annotated:
        """The data set that was collected.

        Args:
            files: the annotation files, for error messages.

        Raises:
            DatasetError: no image was found.
        """
        if not self._images:
            raise DatasetError(
                f"{self.folder.root}: none of the images of {', '.join(map(str, files))} is below it; check "
                "dataset.images"
            )
        repeated = sum(count - 1 for count in self._ids.values())
        self.note("ids", "annotations share an id with another; they are told apart by their order", repeated)
        extra = len(set(self.folder.files) - set(self._images))
        self.note("file", "image files below the folder that no annotation file lists are left out", extra)
        notes = [f"{self._counts[kind]:,} {text}" for kind, text in self._sentences.items() if self._counts[kind]]
        return Annotated(list(categories), list(self._images.values()), notes, unlabeled_is_void)


def _number(given: Any) -> int | None:
    """An integer of at most 63 bits; None for any other value."""
    return given if isinstance(given, int) and not isinstance(given, bool) and abs(given) < 1 << 63 else None


def _segmentation(given: Any) -> Any:
    """COCO's segmentation, or None where there is none."""
    if isinstance(given, dict):
        return given if given.get("counts") else None
    if not isinstance(given, list) or not given:
        return None
    if all(isinstance(value, int | float) for value in given):
        given = [given]
    parts = [part for part in given if isinstance(part, list) and len(part) >= 6]
    return parts or None


_MANY_CROWDS = 0.25
"""Number of crowds per single object from which the crowds are more likely single objects that a tool marked so."""


def with_crowds(annotated: Annotated, as_instances: bool) -> Annotated:
    """A data set whose crowds stay crowds, with a note about them, or become single objects.

    Args:
        as_instances: whether crowds become single objects.
    """
    things = {category.id for category in annotated.categories if category.has_instances}
    kinds: Counter[tuple[bool, bool]] = Counter()
    for image in annotated.images:
        kinds.update((o.crowd, isinstance(o.segmentation, dict)) for o in image.objects if o.category in things)
        if as_instances:
            image.objects = [replace(o, crowd=False) if o.crowd else o for o in image.objects]
    coded, outlined = kinds[True, True], kinds[True, False]
    if as_instances or not coded + outlined:
        return annotated
    single = kinds[False, True] + kinds[False, False]
    everything = not single
    # COCO itself also mixes run-length codes for crowds with polygons, but has few crowds
    brushed = coded and not outlined and not kinds[False, True] and coded > _MANY_CROWDS * single
    if everything or brushed:
        kind = "object" if everything else "run-length code"
        note = (
            f"every {kind} ({coded + outlined:,}) is marked as a crowd, as CVAT writes masks drawn with a "
            "brush: they are taken for groups, none is repainted; set dataset.crowds to instances if each is one object"
        )
    else:
        note = f"{coded + outlined:,} objects are crowds: groups that are never repainted and ignored in evaluation"
    return replace(annotated, notes=[*annotated.notes, note])
