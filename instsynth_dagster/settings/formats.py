"""The formats of a data set; `format` selects one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AliasChoices, Discriminator, Field, Tag, model_validator

from instsynth_dagster.settings.data import AnnotatedImages, CityscapesTree

Split = Literal["train", "val"]
BySplit = Path | dict[Split, Path]
"""One path, or one for each split."""


class _FilesBySplit(AnnotatedImages):
    annotations: BySplit

    @model_validator(mode="after")
    def _trains(self) -> Self:
        if isinstance(self.annotations, dict) and "train" not in self.annotations:
            raise ValueError("annotations has no entry train")
        if isinstance(self.annotations, dict) and "val" in self.annotations and self.split:
            raise ValueError("annotations has an entry for val already; leave split out")
        return self

    @property
    def annotation_files(self) -> dict[str | None, Path]:
        if not isinstance(self.annotations, dict):
            return {None: self.annotations}
        if list(self.annotations) == ["train"] and self.split:
            return {None: self.annotations["train"]}
        return {str(split): path for split, path in self.annotations.items()}


class CocoImages(_FilesBySplit):
    """A data set with COCO JSON: one file, or one for each split."""

    format: Literal["coco"] = "coco"


class CocoPanopticImages(_FilesBySplit):
    """A data set with COCO panoptic JSON and PNGs."""

    format: Literal["coco_panoptic"]
    masks: BySplit | None = Field(None, description="folders of the PNGs; default: the JSON's name without .json")

    @model_validator(mode="after")
    def _masks_of_all(self) -> Self:
        named, given_format = (
            set(given) if isinstance(given, dict) else None for given in (self.masks, self.annotations)
        )
        if self.masks is not None and named != given_format:
            raise ValueError("masks must name one folder where annotations names one file, and one for each entry else")
        return self

    @property
    def mask_folders(self) -> dict[str | None, Path]:
        """Folders of PNGs by split."""
        if self.masks is None:
            return {split: path.with_suffix("") for split, path in self.annotation_files.items()}
        folders = list(self.masks.values()) if isinstance(self.masks, dict) else [self.masks]
        return dict(zip(self.annotation_files, folders, strict=True))

    @property
    def annotation_places(self) -> list[Path]:
        return [*super().annotation_places, *self.mask_folders.values()]


class CvatImages(_FilesBySplit):
    """A data set with the XML of CVAT for images 1.1."""

    format: Literal["cvat"]


class LabelMeImages(_FilesBySplit):
    """A data set with LabelMe's JSON files, one for each image."""

    format: Literal["labelme"]
    annotations: BySplit = Field(description="folders of the JSON files; default: the folder of images")

    @model_validator(mode="before")
    @classmethod
    def _beside(cls, raw: Any) -> Any:
        return _with_default(raw, "annotations", lambda given: given.get("images", given.get("root")))


class Bdd100kImages(_FilesBySplit):
    """A data set with BDD100K's bitmasks (folders) or the JSON files of its labels."""

    format: Literal["bdd100k"]


class _OneFolder(AnnotatedImages):
    annotations: Path

    @property
    def annotation_files(self) -> dict[str | None, Path]:
        return {None: self.annotations}


class YoloImages(_OneFolder):
    """A data set with YOLO's polygons; `annotations` is its data.yaml."""

    format: Literal["yolo"]
    root: Path = Field(
        validation_alias=AliasChoices("images", "root"),
        description="folder that holds the images of all splits; default: that of the data.yaml",
    )

    @model_validator(mode="before")
    @classmethod
    def _around(cls, raw: Any) -> Any:
        return _with_default(raw, "images", lambda given: Path(given["annotations"]).parent)

    @property
    def annotation_places(self) -> list[Path]:
        return [self.annotations, self.root]


class VocImages(_OneFolder):
    """A data set with Pascal VOC's masks; `annotations` is the folder that holds SegmentationObject."""

    format: Literal["voc"]

    @model_validator(mode="before")
    @classmethod
    def _as_released(cls, raw: Any) -> Any:
        return _with_default(raw, "images", lambda given: Path(given["annotations"]) / "JPEGImages")


class MapillaryImages(_OneFolder):
    """Mapillary Vistas; `annotations` is the folder that holds its configuration, `training` and `validation`."""

    format: Literal["mapillary"]
    version: Literal["v1.2", "v2.0"] | None = Field(None, description="of the labels, where there are both")
    images_within: ClassVar[str | None] = "images"

    @model_validator(mode="before")
    @classmethod
    def _as_released(cls, raw: Any) -> Any:
        return _with_default(raw, "images", lambda given: given["annotations"])


def _with_default(raw: Any, key: str, default: Any) -> Any:
    """A section with a default for a missing key, as far as the values on which the default depends are present."""
    if not isinstance(raw, dict) or key in raw or (key == "images" and "root" in raw):
        return raw
    if key == "images" and not isinstance(raw.get("annotations"), str | Path):
        return raw
    return {**raw, key: default(raw)}


def _format(given: Any) -> str:
    """The format of a section; Cityscapes where it names none."""
    given_format = (
        given.get("format", "cityscapes") if isinstance(given, Mapping) else getattr(given, "format", "cityscapes")
    )
    return str(given_format)


DatasetSettings = Annotated[
    Annotated[CityscapesTree, Tag("cityscapes")]
    | Annotated[CocoImages, Tag("coco")]
    | Annotated[CocoPanopticImages, Tag("coco_panoptic")]
    | Annotated[YoloImages, Tag("yolo")]
    | Annotated[VocImages, Tag("voc")]
    | Annotated[CvatImages, Tag("cvat")]
    | Annotated[LabelMeImages, Tag("labelme")]
    | Annotated[MapillaryImages, Tag("mapillary")]
    | Annotated[Bdd100kImages, Tag("bdd100k")],
    Discriminator(
        _format,
        custom_error_type="unknown_format",
        custom_error_message="unknown format; known are cityscapes, coco, coco_panoptic, yolo, voc, cvat, labelme, "
        "mapillary and bdd100k",
    ),
]
