"""The data set, and where artifacts lie."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from instsynth_dagster.settings.base import Distinct, Name, Role, Section


class DemoCitySettings(Section):
    """The procedural data set; leave the section out to bring your own."""

    width: int = Field(512, ge=128)
    height: int = Field(256, ge=64)
    frames_per_city: int = Field(40, ge=1)
    seed: int = 20
    palette: Literal["full", "dull"] = Field(
        "full", description="of the train cities' vehicles and clothes; val cities wear every colour"
    )
    like_train: Distinct[Name] = Field((), description="val and test cities in the palette of the train cities")


class DatasetSettings(Section):
    """A data set in Cityscapes layout. Relative paths are taken from the params file's project root."""

    root: Path
    train_cities: Distinct[Name] = Field(min_length=1)
    val_cities: Distinct[Name] = ()
    demo_city: DemoCitySettings | None = None

    @model_validator(mode="after")
    def _no_leak(self) -> Self:
        both = sorted(set(self.train_cities) & set(self.val_cities))
        if both:
            raise ValueError(f"{', '.join(both)} stands in both train_cities and val_cities; a val city may not train")
        return self


class ArtifactSettings(Section):
    """Where artifacts lie: a directory, or the URL of an object store (`s3://bucket/prefix`, `gs://...`)."""

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
        """A local directory for caches: below the root itself, or the cache of an object store."""
        return self.cache if "://" in self.root else Path(self.root)
