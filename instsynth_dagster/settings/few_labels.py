"""Settings of learning from few labels: few-shot protocols, and instances from semantic maps."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from instsynth_dagster.settings.base import Distinct, Name, Section
from instsynth_dagster.settings.refinement import FeatureSettings
from instsynth_dagster.settings.segmentation import SegmenterSettings


class FewShotSettings(Section):
    """Generalised few-shot segmentation: novel classes from K images, with and without images synthesised from them."""

    features: FeatureSettings
    generator: Name | None = Field(None, description="that repaints the shots; none: without synthesis only")
    shots: Distinct[Annotated[int, Field(ge=1)]] = Field((1, 5), min_length=1)
    seeds: Distinct[int] = Field((0, 1, 2), min_length=1)
    replicas: int = Field(4, ge=1, description="repaintings of each shot")


class FewShotSystem(Section):
    """A segmenter under the few-shot protocol."""

    base: SegmenterSettings = Field(description="training on all train frames, without annotations of novel classes")
    tune: dict[str, Any] = Field(default_factory=dict, description="what fine-tuning on K shots changes of it")
    detector: Name | None = Field(None, description="maskdiff: the system whose boxes it takes")


class FewShotInstanceSettings(Section):
    """Few-shot instance segmentation: novel classes from K instances, with and without repaintings of these
    instances.
    """

    novel: Distinct[str] = Field(("truck", "bus", "train"), min_length=1)
    shots: Distinct[Annotated[int, Field(ge=1)]] = Field((1, 5, 10), min_length=1)
    seeds: Distinct[int] = Field((0, 1, 2), min_length=1)
    generator: Name | None = Field(None, description="that repaints the shots; none: without synthesis only")
    replicas: int = Field(4, ge=1, description="repaintings of each shot")
    systems: dict[Name, FewShotSystem] = Field(min_length=1)

    @model_validator(mode="after")
    def _detectors_lend(self) -> Self:
        for name, system in self.systems.items():
            lender = self.systems.get(system.detector) if system.detector else None
            if system.detector and (lender is None or lender.detector):
                raise ValueError(f"systems.{name}.detector names {system.detector!r}, which finds no boxes of its own")
        return self


class SemanticsSettings(Section):
    """Instances from semantic maps: SISeg trained on the train cities, then applied to `cities`."""

    segmenter: SegmenterSettings = Field(description="of kind siseg")
    cities: Distinct[Name] = Field(min_length=1, description="whose frames need a *_gtFine_labelIds.png only")
    source: Literal["labels", "predicted"] = Field("labels", description="predicted: by the segmenter's semantics")
    seed: int = 0

    @model_validator(mode="after")
    def _can_predict(self) -> Self:
        if self.segmenter.kind != "siseg":
            raise ValueError(f"segmenter must be of kind siseg, not {self.segmenter.kind}")
        if self.source == "predicted" and not self.segmenter.architecture.get("semantics"):
            raise ValueError("source predicted needs segmenter.architecture.semantics")
        return self
