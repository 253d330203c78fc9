"""Settings of each kind of segmenter, in addition to the recipe that all kinds share."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from instsynth_dagster.settings.checkpoint import CheckpointRef
from instsynth_dagster.settings.segmentation import SegmenterSettings

_HERE = "instsynth_dagster.segmenters"


class WithBackbone(SegmenterSettings):
    """Settings of kinds that may start from a pretrained backbone."""

    backbone: CheckpointRef | None = Field(None, description="pretrained backbone, folder or hub id")

    @property
    def start(self) -> CheckpointRef | None:
        return self.model or self.backbone


class Detectron2Settings(WithBackbone):
    """A model of detectron2, by one of its configurations."""

    kind: Literal["detectron2"]
    config_file: CheckpointRef | None = Field(None, description="a config file of its own, or of its model zoo")
    IMPLEMENTATION = f"{_HERE}.detectron2.segmenter:Detectron2Segmenter"


class EomtSettings(SegmenterSettings):
    """EoMT from transformers."""

    kind: Literal["eomt"]
    IMPLEMENTATION = f"{_HERE}.eomt:EomtSegmenter"


class FastInstSettings(WithBackbone):
    """This project's FastInst."""

    kind: Literal["fastinst"]
    IMPLEMENTATION = f"{_HERE}.fastinst.segmenter:FastInstSegmenter"


class GenerativeSettings(SegmenterSettings):
    """A decoder that denoises boxes on the features of a diffusion UNet."""

    kind: Literal["generative"]
    IMPLEMENTATION = f"{_HERE}.generative.segmenter:GenerativeSegmenter"
    ARCHITECTURE = f"{_HERE}.generative.config:GenerativeConfig"


class MaskDiffSettings(SegmenterSettings):
    """A diffusion model of masks in the boxes of another segmenter."""

    kind: Literal["maskdiff"]
    IMPLEMENTATION = f"{_HERE}.maskdiff.segmenter:MaskDiffSegmenter"
    ARCHITECTURE = f"{_HERE}.maskdiff.config:MaskDiffConfig"


class Mask2FormerSettings(WithBackbone):
    """Mask2Former from transformers."""

    kind: Literal["mask2former"]
    IMPLEMENTATION = f"{_HERE}.mask2former:Mask2FormerSegmenter"


class OneFormerSettings(WithBackbone):
    """OneFormer from transformers."""

    kind: Literal["oneformer"]
    tokenizer: CheckpointRef | None = Field(None, description="of its task and text inputs, folder or hub id")
    text_branch: bool = Field(True, description="contrast queries with texts (w/o CLIP: false)")
    IMPLEMENTATION = f"{_HERE}.oneformer.segmenter:OneFormerSegmenter"


class RfDetrSettings(SegmenterSettings):
    """RF-DETR-Seg from transformers."""

    kind: Literal["rf_detr"]
    IMPLEMENTATION = f"{_HERE}.rf_detr:RfDetrSegmenter"


class SISegSettings(SegmenterSettings):
    """SISeg, which separates the instances of semantic maps."""

    kind: Literal["siseg"]
    IMPLEMENTATION = f"{_HERE}.siseg.segmenter:SISegSegmenter"
    ARCHITECTURE = f"{_HERE}.siseg.config:SISegConfig"
