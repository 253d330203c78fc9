"""Settings from instances to synthetic windows: selection, prompts, generators, gates, integration."""

from __future__ import annotations

import re
import unicodedata
from string import Formatter
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from instsynth_dagster.data.images import Stored
from instsynth_dagster.settings.base import Distinct, Name, Role, Section, Size
from instsynth_dagster.settings.checkpoint import CheckpointRef
from instsynth_dagster.settings.kinds import Kinded


class SelectionSettings(Section):
    """Phase 1. `paper`: the K largest per image over all instance classes (Eq. 1). `balanced`: evaluated classes
    only, at least `min_area` pixels, rare classes first, at most `quota` per class and city, at most K per image."""

    policy: Literal["paper", "balanced"] = "balanced"
    k: int = Field(3, ge=1)
    min_area: int = Field(300, ge=1, description="pixels")
    quota: int = Field(24, ge=1, description="instances per class and city")
    margin: float = Field(0.25, ge=0, le=2, description="context on each side, in units of the longer box side")


PLACEHOLDERS = ("color", "lighting", "description")
"""Placeholders in templates: a colour of the class, words for the light of the frame (synthesis/lighting.py), a caption
of the instance (`captions`)."""


class PromptSettings(Section):
    """Prompts of one class: every template with every colour. {lighting} and {description} are filled in for each
    repainted instance.
    """

    templates: tuple[str, ...] = Field(min_length=1)
    colors: tuple[str, ...] = ()

    @field_validator("templates", "colors")
    @classmethod
    def _words(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        for text in texts:
            if not text.strip() or not text.isprintable():
                raise ValueError(f"{text!r} is empty or more than one line of text")
        return texts

    @field_validator("templates")
    @classmethod
    def _only_what_is_known_is_filled_in(cls, templates: tuple[str, ...]) -> tuple[str, ...]:
        for template in templates:
            if odd := _odd_placeholder(template):
                raise ValueError(f"{template!r} holds {odd}; placeholders are {{color}}, {{lighting}}, {{description}}")
        return templates

    @field_validator("colors")
    @classmethod
    def _plain_colors(cls, colors: tuple[str, ...]) -> tuple[str, ...]:
        for color in colors:
            if "{" in color or "}" in color:
                raise ValueError(f"{color!r} holds a brace")
        return colors

    def wants(self, placeholder: str) -> bool:
        """Whether any template contains {placeholder}."""
        return any(f"{{{placeholder}}}" in template for template in self.templates)

    @model_validator(mode="after")
    def _colors_used(self) -> Self:
        if self.wants("color") != bool(self.colors):
            raise ValueError("templates use {color} exactly when colors are given")
        return self


def _odd_placeholder(template: str) -> str | None:
    """The first text in braces that is no placeholder; None where there is none."""
    try:
        fields = [(field, spec, conversion) for _, field, spec, conversion in Formatter().parse(template)]
    except ValueError:
        return "an unmatched brace"
    for field, spec, conversion in fields:
        if field is not None and (field not in PLACEHOLDERS or spec or conversion):
            return f"the placeholder {field!r}"
    for field in PLACEHOLDERS:
        template = template.replace(f"{{{field}}}", "")
    return "a brace" if set(template) & set("{}") else None


_CONSONANT_SOUND = re.compile(r"(?i:uni(?!n)|u[sr][aei]|uk|eu|ew|one\b|once)|U(?=[A-Z\d])")
_VOWEL_SOUND = re.compile(r"(?i:[aeiou]|hour|honest|heir)|(?i:[fhlmnrsx])(?=-)|[FHLMNRSX](?=[A-Z\d.]|$)")


def plain_prompts(class_name: str) -> dict[str, tuple[str, ...]]:
    """The default prompt of a class without prompts in the params file: "a photo of an umbrella"."""
    sound = unicodedata.normalize("NFKD", class_name)
    vowel = _VOWEL_SOUND.match(sound) and not _CONSONANT_SOUND.match(sound)
    text = class_name.replace("{", "(").replace("}", ")")
    return {"templates": (f"a photo of {'an' if vowel else 'a'} {text}",)}


class CaptionSettings(Section):
    """The image captioning model that fills {description} in templates; it captions each instance once."""

    model: CheckpointRef = Field(description="of transformers (BLIP, GIT or the like), folder or hub id[@revision]")
    max_tokens: int = Field(20, ge=1, le=200, description="length of a caption")


class PromptBankSettings(Section):
    """A diverse bank (HDIG): an agent proposes prompts beyond the templates, and only those far from all earlier ones
    are kept.
    """

    encoder: Name = Field(description="the generator whose text encoders measure similarity")
    size: int = Field(40, ge=1, description="prompts per class")
    quantile: float = Field(0.5, gt=0, lt=1, description="lambda as a quantile of random-caption similarity")
    max_rejections: int = Field(400, ge=1)
    agent: CheckpointRef | None = Field(
        None, description="a causal language model, folder or hub id; default: the grammar"
    )


class GeneratorSettings(Kinded):
    """A diffusion model that fills a mask. `model` is a local folder, which `@sha256:<digest>` pins, or a hub id, which
    `@revision` pins; `mirrors` are tried after it and must hold the same `weights`. Kinds add their own settings
    (synthesis/generators/kinds.py).
    """

    model: CheckpointRef
    mirrors: Annotated[tuple[CheckpointRef, ...], Role.EXECUTION] = Field(
        (), description="the same weights elsewhere; each is checked by `weights`"
    )
    weights: dict[str, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]] = Field(
        default_factory=dict, description="sha256 of files of the model, as unet/diffusion_pytorch_model.safetensors"
    )
    variant: str | None = None
    lora: CheckpointRef | None = Field(None, description="folder or hub id[@revision]; fused with the weights")
    size: int = Field(512, ge=16, description="native square size, pixels")
    sizes: Distinct[Annotated[int, Field(ge=16)]] = Field(
        (), description="further squares, smaller or larger; a crop is painted at the smallest that loses nothing"
    )
    steps: int = Field(50, ge=1)
    guidance: float = Field(7.5, ge=0)
    strength: float = Field(1.0, gt=0, le=1)
    scheduler: Literal["ddim", "dpm++", "euler", "lcm", "unipc"] | None = None
    negative_prompt: str | None = None
    normalise_exposure: bool = Field(
        False, description="dim crops are brightened for the model, and its output is darkened back"
    )
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    batch_size: Annotated[int, Role.EXECUTION] = Field(8, ge=1)
    compile: Annotated[bool, Role.EXECUTION] = Field(
        False, description="compile the denoiser's repeated blocks at the first batch"
    )
    replicas: int = Field(1, ge=1, description="repaintings of each selected instance")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.mirrors and not self.weights:
            raise ValueError(
                "mirrors must be the same weights elsewhere: add weights, the sha256 of the model's files; "
                "other weights are another generator"
            )
        if int(self.steps * self.strength) < 1:
            raise ValueError(
                f"strength {self.strength:g} of {self.steps} steps leaves no step to take; "
                f"raise strength to {1 / self.steps:.3g} or more, or raise steps"
            )
        return self


class MaskJudgeSettings(Section):
    """A segmenter that predicts the mask of each repainted instance in its frame. It is trained here, for each train
    city on the real frames of the others, so that none judges frames of its training; or it was trained elsewhere.
    """

    segmenter: Name = Field(description="one of `segmenters`: kind and recipe")
    checkpoint: CheckpointRef | None = Field(
        None, description="folder of one that was trained elsewhere, on none of these frames"
    )
    min_score: float = Field(0.1, ge=0, le=1, description="least score of a predicted mask")


class JudgeSettings(Section):
    """Models that score crops for gates, CLIP also for image metrics."""

    clip: CheckpointRef = Field(description="folder or hub id, optionally @revision")
    fid_features: Literal["inception", "clip"] = Field("inception", description="what FID and KID compare")
    inception_weights: CheckpointRef | None = Field(
        None, description="torch-fidelity's .pth; downloaded once where not given"
    )
    cut_out: bool = Field(False, description="show instances on grey instead of in their surroundings")
    masks: MaskJudgeSettings | None = None


class GateSettings(Section):
    """Bounds on a crop's scores (synthesis/gates.py); a gate without a bound is inactive. A score that has a bound and
    cannot be computed rejects the crop; a failed crop is rejected without any gate. A rejected crop is replaced by an
    accepted spare replica; without one the original pixels stay.
    """

    min_class_margin: float | None = None
    min_real_similarity: float | None = None
    max_source_similarity: float | None = None
    min_change: float | None = Field(None, description="mean absolute difference inside the mask, 0..1")
    max_seam: float | None = Field(None, description="grey levels per pixel")
    min_sharpness: float | None = Field(None, description="gradient inside the mask over the source's")
    max_upscale: float | None = Field(None, description="width of the crop over the width it was painted at")
    min_mask_iou: float | None = Field(
        None, gt=0, le=1, description="of the given mask and the best one that `judge.masks` finds of its class"
    )
    spares: int = Field(0, ge=0, description="additional replicas that replace rejected ones")

    @property
    def has_bounds(self) -> bool:
        """Whether any gate has a bound."""
        return any(
            getattr(self, name) is not None for name in type(self).model_fields if name.startswith(("min", "max"))
        )


class IntegrationSettings(Section):
    """Phase 3. A window has the aspect ratio of `window_size` (width, height; 2:1 in the paper). Its area is lambda
    times that of the tightest such window, lambda ~ N(scale_mean, scale_std) truncated to what fits (Eq. 2).
    """

    feather: float = Field(1.5, ge=0, description="pixels of soft edge, inside the mask")
    color_match: Literal["none", "mean_std"] = "none"
    scale_mean: float = Field(3.0, gt=0)
    scale_std: float = Field(1.0, gt=0)
    window_size: Size = (2048, 1024)
    min_visible: float = Field(0.25, ge=0, le=1, description="a neighbour cut below this fraction becomes a group")
    stored_as: Stored = Field(
        "png",
        description="of windows: webp is two thirds of png and takes ten times longer to write, jpeg is a quarter, but "
        "pixels outside the mask are then close but not equal to the source's",
    )
