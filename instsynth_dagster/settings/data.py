"""Settings that data sets of all formats share, those of the Cityscapes layout, and the location of artifacts."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AliasChoices, Field, field_validator, model_validator

from instsynth_dagster.settings.base import Distinct, Name, Role, Section


class DemoCitySettings(Section):
    """The procedural data set; leave the section out to use your own."""

    width: int = Field(512, ge=128)
    height: int = Field(256, ge=64)
    frames_per_city: int = Field(40, ge=1)
    scored_frames: int | None = Field(None, ge=1, description="of a val or test city; default: frames_per_city")
    seed: int = 20
    palette: Literal["full", "dull"] = Field(
        "full", description="of the train cities' vehicles and clothes; val cities have every colour"
    )
    train_counts: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict, description="factor on the mean number of a class in the train cities, below 1: rarer"
    )
    like_train: Distinct[Name] = Field((), description="val and test cities drawn like the train cities")


class _CitySplits(Section):
    """Train, val and test cities; a city is any group of frames. Also the frames left out, and near duplicates."""

    train_cities: Distinct[Name] = ()
    val_cities: Distinct[Name] = ()
    test_cities: Distinct[Name] = Field(
        (), description="scored like val cities, reported city by city; choices are made on the val cities alone"
    )
    leave_out: Distinct[str] = Field((), description="ids of frames that count as absent, such as copies of val frames")
    near_duplicates: Literal["stop", "allow"] = Field(
        "stop", description="images of train and val that are nearly one picture; exact copies always stop"
    )

    @model_validator(mode="after")
    def _no_leak(self) -> Self:
        roles = {name: getattr(self, name) for name in ("train_cities", "val_cities", "test_cities")}
        for (one, first), (other, second) in combinations(roles.items(), 2):
            if both := sorted(set(first) & set(second)):
                raise ValueError(f"{', '.join(both)} stands in both {one} and {other}; a city has one role")
        return self


class CityscapesTree(_CitySplits):
    """A data set in Cityscapes layout. Relative paths are relative to the project root of the params file."""

    format: Literal["cityscapes"] = "cityscapes"
    root: Path
    train_cities: Distinct[Name] = Field(min_length=1)
    demo_city: DemoCitySettings | None = None


class FolderGroups(Section):
    """Groups by folder: the images of one folder are a group."""

    by: Literal["folder"]


class NameGroups(Section):
    """Groups by name: the part of a path below the folder of images that a regular expression captures, for example
    `^([^_]+)_`.
    """

    by: Literal["name"]
    pattern: str

    @field_validator("pattern")
    @classmethod
    def _captures(cls, pattern: str) -> str:
        try:
            groups = re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"{pattern!r} is no regular expression ({error})") from None
        if not groups:
            raise ValueError(f"{pattern!r} captures nothing; put what names the group in ( )")
        return pattern


class TableGroups(Section):
    """Groups from a column of a CSV file, whose column `file` names the images."""

    by: Literal["table"]
    table: Path
    column: str


class HashGroups(Section):
    """Groups by a hash of each path, into a fixed number of buckets."""

    by: Literal["hash"]
    buckets: int = Field(8, ge=1, le=1000)


Groups = Annotated[FolderGroups | NameGroups | TableGroups | HashGroups, Field(discriminator="by")]


class SplitSettings(Section):
    """The groups that validate, where the annotation files define no splits: the named ones, or a share drawn by a
    seed.
    """

    val_groups: Distinct[str] = ()
    val_fraction: float | None = Field(None, gt=0, lt=1)
    seed: int = 0

    @model_validator(mode="after")
    def _exactly_one_given(self) -> Self:
        if bool(self.val_groups) == (self.val_fraction is not None):
            raise ValueError("give val_groups or val_fraction")
        return self


class AnnotatedImages(_CitySplits):
    """Images in a folder, annotated object by object. `train_cities` and `val_cities` are filled in from the groups of
    the data; leave them out.
    """

    root: Path = Field(validation_alias=AliasChoices("images", "root"), description="folder of the images")
    groups: Groups | None = Field(None, description="default: folders where there are several, else 8 buckets")
    max_groups: int = Field(50, ge=1, description="more groups than this are merged into this many buckets")
    split: SplitSettings | None = None
    overlap: Literal["smaller", "later"] = Field("smaller", description="which of two overlapping objects is on top")
    crowds: Literal["groups", "instances"] = Field(
        "groups", description="whether objects marked `iscrowd` are groups or instances"
    )
    orientation: Literal["auto", "apply", "ignore"] = Field(
        "auto", description="EXIF orientation: applied where the annotated size requires it, always, never"
    )

    format: str
    images_within: ClassVar[str | None] = None
    """Name of the folders that hold the images, where other pictures lie below `root` too."""

    @property
    def demo_city(self) -> None:
        return None

    @property
    def annotation_files(self) -> dict[str | None, Path]:
        """Annotation files by split; the key is None where the files define no splits."""
        raise NotImplementedError

    @property
    def annotation_places(self) -> list[Path]:
        """Annotation files, and folders of them."""
        return list(self.annotation_files.values())

    @property
    def resolved(self) -> bool:
        """Whether cities have been filled in from the data."""
        return bool(self.train_cities)


class ExportSettings(Section):
    """Contents of an export beside its COCO JSON of the windows and, for a data set in Cityscapes layout, the
    Cityscapes tree.
    """

    formats: Distinct[Literal["yolo", "coco_panoptic"]] = Field((), description="further formats of the windows")
    with_original: bool = Field(
        False, description="a second COCO JSON of the train images and the windows, with the original ids"
    )


class ArtifactSettings(Section):
    """Location of artifacts: a directory, or the URL of an object store (`s3://bucket/prefix`, `gs://...`)."""

    root: Annotated[str, Role.EXECUTION] = "artifacts"
    cache: Annotated[Path, Role.EXECUTION] = Field(
        Path(".cache/artifacts"), description="local copies of an object store's files; may be deleted"
    )
    exports: Path | None = Field(Path("exports"), description="null: none are written, until a folder is named")
    results: Annotated[Path, Role.EXECUTION] = Field(
        Path("results"), description="tables, metrics and curves with fixed names"
    )

    @field_validator("root")
    @classmethod
    def _no_secrets(cls, root: str) -> str:
        if not root:
            raise ValueError("must not be empty")
        if "://" in root and "@" in root.split("://", 1)[1].split("/", 1)[0]:
            raise ValueError("holds credentials; leave them out, they come from the environment")
        return root

    @property
    def folders(self) -> dict[str, Path]:
        """Local folders that are written, by the keys that name them."""
        remote = "://" in self.root
        found = {
            "artifacts.cache" if remote else "artifacts.root": self.cache if remote else Path(self.root),
            "artifacts.exports": self.exports,
            "artifacts.results": self.results,
        }
        return {key: folder for key, folder in found.items() if folder is not None}

    @property
    def local(self) -> Path:
        """A local directory for caches: below a local root itself, or the cache of an object store."""
        return self.cache if "://" in self.root else Path(self.root)
