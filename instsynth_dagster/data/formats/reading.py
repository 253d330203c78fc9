"""The reader of each annotation format."""

from __future__ import annotations

from pathlib import Path

from instsynth_dagster.data.annotated import Annotated, ImageFolder, files_named
from instsynth_dagster.data.formats.bdd100k import read_bdd100k
from instsynth_dagster.data.formats.coco import read_coco
from instsynth_dagster.data.formats.coco_panoptic import read_coco_panoptic
from instsynth_dagster.data.formats.cvat import read_cvat
from instsynth_dagster.data.formats.labelme import read_labelme
from instsynth_dagster.data.formats.mapillary import read_mapillary
from instsynth_dagster.data.formats.voc import read_voc
from instsynth_dagster.data.formats.yolo import read_yolo
from instsynth_dagster.settings.data import AnnotatedImages
from instsynth_dagster.settings.formats import CocoPanopticImages, MapillaryImages, VocImages, YoloImages

_BY_SPLIT = {"coco": read_coco, "cvat": read_cvat, "labelme": read_labelme, "bdd100k": read_bdd100k}
_SUFFIXES = (".json", ".png", ".txt")


def read_annotations(dataset: AnnotatedImages, folder: ImageFolder) -> Annotated:
    """A data set as its own files define it.

    Raises:
        UnreadableError: a file or folder is missing.
        DatasetError: the annotations are not in their format.
    """
    if isinstance(dataset, CocoPanopticImages):
        return read_coco_panoptic(dataset.annotation_files, folder, dataset.mask_folders)
    if isinstance(dataset, YoloImages):
        return read_yolo(dataset.annotations, folder, dataset.orientation)
    if isinstance(dataset, VocImages):
        return read_voc(dataset.annotations, folder)
    if isinstance(dataset, MapillaryImages):
        return read_mapillary(dataset.annotations, folder, dataset.version)
    return _BY_SPLIT[dataset.format](dataset.annotation_files, folder)


def annotations_below(place: Path) -> list[Path]:
    """An annotation file itself, or the annotation files of a folder."""
    if not place.is_dir():
        return [place]
    return [place / name for name in sorted(files_named(place, lambda name: name.lower().endswith(_SUFFIXES)))]
