"""params.yaml -> typed settings: one place for every knob.

Every section is frozen and refuses unknown keys, so a typing error is an error and not a silent default.
"""

from __future__ import annotations

import os
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal, Self, TypeVar
from zoneinfo import available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from instsynth_dagster.cityscapes import CLASSES
from instsynth_dagster.errors import SettingsError
from instsynth_dagster.params_file import PARAMS_ENV, read_params

REFINED = "_refined"
"""Ending of the arm that trains on a generator's refined pseudo-labels."""
_NOT_GENERATORS = ("real", "zoom_crop", "copy_paste", "from_semantics")
T = TypeVar("T")


def _each_once(values: tuple[T, ...]) -> tuple[T, ...]:
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{value!r} stands twice")
    return values


Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=80)]
Distinct = Annotated[tuple[T, ...], AfterValidator(_each_once)]
Size = tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DemoCitySettings(Section):
    """The procedural data set; leave the section out to bring your own."""

    width: int = Field(512, ge=128)
    height: int = Field(256, ge=64)
    frames_per_city: int = Field(40, ge=1)
    seed: int = 20


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


class SelectionSettings(Section):
    """Phase 1. `paper`: the K largest per image over all instance classes (Eq. 1). `balanced`: evaluated classes
    only, at least `min_area` pixels, rare classes first, at most `quota` per class and city, at most K per image."""

    policy: Literal["paper", "balanced"] = "balanced"
    k: int = Field(3, ge=1)
    min_area: int = Field(300, ge=1, description="pixels")
    quota: int = Field(24, ge=1, description="instances per class and city")
    margin: float = Field(0.25, ge=0, le=2, description="context on each side, in units of the longer box side")


class PromptSettings(Section):
    """Prompts of one class: every template with every colour."""

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
    def _only_colors_are_filled_in(cls, templates: tuple[str, ...]) -> tuple[str, ...]:
        for template in templates:
            if odd := _odd_placeholder(template):
                raise ValueError(f"{template!r} holds {odd}; {{color}} is the only placeholder")
        return templates

    @field_validator("colors")
    @classmethod
    def _plain_colors(cls, colors: tuple[str, ...]) -> tuple[str, ...]:
        for color in colors:
            if "{" in color or "}" in color:
                raise ValueError(f"{color!r} holds a brace")
        return colors

    @model_validator(mode="after")
    def _colors_used(self) -> Self:
        wants = any("{color}" in t for t in self.templates)
        if wants != bool(self.colors):
            raise ValueError("templates use {color} exactly when colors are given")
        return self


def _odd_placeholder(template: str) -> str | None:
    """What a template holds in braces beside {color}."""
    try:
        fields = [(field, spec, conversion) for _, field, spec, conversion in Formatter().parse(template)]
    except ValueError:
        return "an unmatched brace"
    for field, spec, conversion in fields:
        if field is not None and (field, spec, conversion) != ("color", "", None):
            return f"the placeholder {field!r}"
    return "a brace" if set(template.replace("{color}", "")) & set("{}") else None


class PromptBankSettings(Section):
    """A diverse bank (HDIG): beyond the templates an agent proposes, and only what is far from all before is kept."""

    encoder: Name = Field(description="the generator whose text encoders measure similarity")
    size: int = Field(40, ge=1, description="prompts per class")
    quantile: float = Field(0.5, gt=0, lt=1, description="lambda as a quantile of random-caption similarity")
    max_rejections: int = Field(400, ge=1)
    agent: str | None = Field(None, description="a causal language model, folder or hub id; default: the grammar")


class GeneratorSettings(Section):
    """A diffusion backend that fills a mask. `model` is a local folder, which `@sha256:<digest>` pins, or a hub id,
    which `@revision` pins; `mirrors` are tried after it."""

    kind: Literal[
        "blendeddiff",
        "diffinpainting",
        "flux2_klein",
        "flux_fill",
        "gligen",
        "qwen_image",
        "sd3_inpaint",
        "sdxl_inpaint",
        "z_image",
    ]
    model: str
    mirrors: tuple[str, ...] = ()
    variant: str | None = None
    lora: str | None = Field(None, description="folder or hub id[@revision]; melted into the weights")
    size: int = Field(512, ge=16, description="native square size, pixels")
    small_sizes: tuple[Annotated[int, Field(ge=16)], ...] = Field((), description="cheaper squares for small crops")
    steps: int = Field(50, ge=1)
    guidance: float = Field(7.5, ge=0)
    strength: float = Field(1.0, gt=0, le=1)
    scheduler: Literal["ddim", "dpm++", "euler", "lcm", "unipc"] | None = None
    negative_prompt: str | None = None
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    batch_size: int = Field(8, ge=1)
    compile: bool = Field(False, description="compile the denoiser's repeated blocks at the first batch")
    replicas: int = Field(1, ge=1, description="repaintings of each selected instance")
    mask_dilations: int = Field(0, ge=0, description="blendeddiff: thin masks start this much wider and shrink")
    grounded_steps: float = Field(1.0, ge=0, le=1, description="gligen: share of the steps with grounding on")

    @model_validator(mode="after")
    def _knobs_fit_the_kind(self) -> Self:
        for knob, kind in (("mask_dilations", "blendeddiff"), ("grounded_steps", "gligen")):
            if knob in self.model_fields_set and self.kind != kind:
                raise ValueError(f"{knob} belongs to kind {kind}, not to {self.kind}; remove it")
        if any(size >= self.size for size in self.small_sizes):
            raise ValueError(f"small_sizes must be smaller than size, {self.size}")
        return self


class JudgeSettings(Section):
    """The CLIP that scores crops for gates and image metrics."""

    clip: str = Field(description="folder or hub id, optionally @revision")
    fid_features: Literal["inception", "clip"] = Field("inception", description="what FID and KID compare")
    inception_weights: Path | None = Field(None, description="torch-fidelity's .pth; downloaded once where not given")
    cut_out: bool = Field(False, description="show instances on grey instead of in their surroundings")


class GateSettings(Section):
    """Bounds on a crop's scores (synthesis/gates.py); a gate without a bound is open. A rejected crop gives its place
    to an accepted spare replica, and without one the original pixels stay."""

    min_class_margin: float | None = None
    min_real_similarity: float | None = None
    max_source_similarity: float | None = None
    min_change: float | None = Field(None, description="mean absolute difference inside the mask, 0..1")
    max_seam: float | None = Field(None, description="grey levels per pixel")
    spares: int = Field(0, ge=0, description="replicas drawn beyond those wanted, to stand in for rejected ones")

    @property
    def closed(self) -> bool:
        """Whether any gate has a bound."""
        return any(
            getattr(self, name) is not None for name in type(self).model_fields if name.startswith(("min", "max"))
        )


class IntegrationSettings(Section):
    """Phase 3. Window area = lambda x tight 2:1 area, lambda ~ N(scale_mean, scale_std) as far as it fits (Eq. 2)."""

    feather: float = Field(1.5, ge=0, description="pixels of soft edge, inside the mask")
    color_match: Literal["none", "mean_std"] = "none"
    scale_mean: float = Field(3.0, gt=0)
    scale_std: float = Field(1.0, gt=0)
    window_size: Size = (2048, 1024)
    min_visible: float = Field(0.25, ge=0, le=1, description="a neighbour cut below this fraction becomes a group")

    @field_validator("window_size")
    @classmethod
    def _two_to_one(cls, size: Size) -> Size:
        if size[0] != 2 * size[1]:
            raise ValueError(f"width must be twice the height, got {size[0]}x{size[1]}")
        return size


class FeatureSettings(Section):
    """A frozen feature extractor."""

    kind: Literal["backbone", "clip", "diffusion", "segmenter"] = "backbone"
    model: str = Field(
        description="folder or hub id: ResNet, ConvNeXt, Swin, DINOv2 (backbone), Mask2Former (segmenter), CLIP, or "
        "Stable Diffusion (diffusion)"
    )
    stages: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (0, 1, 2), min_length=1, description="of a backbone, 0 finest"
    )
    scale: float = Field(1.0, gt=0, description="of the image before it is read; finer grids from 2")
    timestep: int = Field(100, ge=0, le=999, description="diffusion: noise level at which the UNet looks")
    caption: str = Field("", description="diffusion: what it is told to see")


class BoundarySettings(Section):
    """SABR: what redraws borders, and when it is believed."""

    kind: Literal["grabcut", "sam", "segment_anything"] = "grabcut"
    model: str | None = Field(None, description="sam: folder or hub id of SAM, SAM 2 or SAM 3 tracker in transformers")
    checkpoint: Path | None = Field(None, description="segment_anything: its weights")
    architecture: Literal["vit_b", "vit_l", "vit_h"] = "vit_b"
    sha256: str | None = Field(
        None, pattern=r"^[0-9a-f]{64}$", description="of the checkpoint, checked before it is read"
    )
    points: int = Field(1, ge=0, description="interior points given beside the box")
    band: int = Field(4, ge=1, description="pixels on either side of a border that may be rewritten")
    min_iou: float = Field(0.5, ge=0, le=1, description="with the mask so far, or the proposal is of something else")
    min_score: float = Field(0.7, ge=0, le=1, description="of the refiner itself")

    @model_validator(mode="after")
    def _named(self) -> Self:
        if self.kind == "sam" and not self.model:
            raise ValueError("kind sam needs a model")
        if self.kind == "segment_anything" and not (self.checkpoint and self.sha256):
            raise ValueError("kind segment_anything needs a checkpoint and its sha256")
        return self


class RefinementSettings(Section):
    """Syn4Seg's refinement of synthetic instances: prototypes filter (APF) and relabel (APR), SABR redraws borders."""

    features: FeatureSettings
    min_cosine: float = Field(0.5, ge=-1, le=1, description="APF: lambda, of a region with its class's prototype")
    blend: float = Field(0.5, ge=0, le=1, description="APR: beta, global against the image's own prototype")
    min_score: float = Field(0.5, ge=-1, le=1, description="APR: cosine that a free pixel's label must reach")
    margin: float = Field(0.05, ge=0, description="APR: lead of the winner over the next")
    boundary: BoundarySettings | None = BoundarySettings()
    min_left: float = Field(0.5, ge=0, le=1, description="an instance with less of its area becomes ignored")
    support_frames: int = Field(20, ge=1, description="train frames of each city that prototypes are made of")


class FewShotSettings(Section):
    """Generalised few-shot segmentation: novel classes from K images, with and without images synthesised from them."""

    features: FeatureSettings
    generator: Name | None = Field(None, description="that repaints the shots; none: without synthesis only")
    shots: Distinct[Annotated[int, Field(ge=1)]] = Field((1, 5), min_length=1)
    seeds: Distinct[int] = Field((0, 1, 2), min_length=1)
    replicas: int = Field(4, ge=1, description="repaintings of each shot")


class SegmenterSettings(Section):
    """A segmenter and its training recipe; the same number of optimiser steps for every arm."""

    kind: Literal[
        "detectron2", "eomt", "fastinst", "generative", "maskdiff", "mask2former", "oneformer", "rf_detr", "siseg"
    ]
    model: str | None = Field(None, description="pretrained segmenter, folder or hub id; overrides the architecture")
    backbone: str | None = Field(None, description="pretrained backbone, folder or hub id")
    architecture: dict[str, Any] = Field(default_factory=dict, description="configuration values of the model class")
    steps: int = Field(90_000, ge=1)
    batch_size: int = Field(4, ge=1)
    learning_rate: float = Field(1e-4, gt=0)
    backbone_lr_factor: float = Field(0.1, ge=0)
    weight_decay: float = Field(0.05, ge=0)
    grad_clip: float = Field(0.01, ge=0, description="largest norm of all gradients together; 0: not clipped")
    crop: Size = Field((360, 720), description="height, width of a training crop")
    scale_range: tuple[float, float] = Field((0.5, 2.0), description="of the image, before cropping")
    synthetic_fraction: float = Field(0.5, gt=0, lt=1, description="share of synthetic windows in a batch, on average")
    repeat_threshold: float | None = Field(
        None,
        gt=0,
        le=1,
        description="LVIS repeat factors: samples with classes rarer than this come oftener",
    )
    mixed_precision: Literal["no", "fp16", "bf16"] = "no"
    gradient_checkpointing: bool = Field(False, description="less memory for about a third more time")
    processes: int = Field(1, ge=1, description="one per GPU, through torchrun; each takes its share of the batch")
    workers: int = Field(0, ge=0)
    checkpoint_every: int = Field(1000, ge=1)
    test_size: Size | None = Field(None, description="height, width fed at inference; default: the image's own")
    max_detections: int = Field(100, ge=1)
    tokenizer: str | None = Field(None, description="oneformer: of its task and text inputs, folder or hub id")
    text_branch: bool = Field(True, description="oneformer: contrast queries with texts (w/o CLIP: false)")
    config_file: Path | None = Field(None, description="detectron2: a config file of its own, or of its model zoo")

    @field_validator("scale_range")
    @classmethod
    def _ascending(cls, bounds: tuple[float, float]) -> tuple[float, float]:
        if not 0 < bounds[0] <= bounds[1]:
            raise ValueError("give a lower bound above 0 and an upper bound that is not below it")
        return bounds

    @model_validator(mode="after")
    def _knobs_fit_the_kind(self) -> Self:
        for knob, kinds in (
            ("backbone", ("detectron2", "fastinst", "mask2former", "oneformer")),
            ("config_file", ("detectron2",)),
            ("tokenizer", ("oneformer",)),
            ("text_branch", ("oneformer",)),
        ):
            if self.kind not in kinds and getattr(self, knob) != type(self).model_fields[knob].default:
                raise ValueError(f"{knob} belongs to kind {' or '.join(kinds)}, not to {self.kind}; remove it")
        return self

    @model_validator(mode="after")
    def _batch_splits(self) -> Self:
        if self.batch_size % self.processes:
            raise ValueError(f"batch_size {self.batch_size} cannot be shared equally by {self.processes} processes")
        return self


class FewShotSystem(Section):
    """A segmenter under the few-shot protocol."""

    base: SegmenterSettings = Field(description="training on all train frames, novel classes unannotated")
    tune: dict[str, Any] = Field(default_factory=dict, description="what fine-tuning on K shots changes of it")
    detector: Name | None = Field(None, description="maskdiff: the system whose boxes it takes")


class FewShotInstanceSettings(Section):
    """Few-shot instance segmentation: novel classes from K instances, with and without repaintings of these."""

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


class ArtifactSettings(Section):
    """Where artifacts lie: a directory, or the URL of an object store (`s3://bucket/prefix`, `gs://...`)."""

    root: str = "artifacts"
    cache: Path = Field(Path(".cache/artifacts"), description="local copies of an object store's files; may be deleted")
    exports: Path = Path("exports")
    results: Path = Field(Path("results"), description="tables, metrics and curves with fixed names")

    @field_validator("root")
    @classmethod
    def _no_secrets(cls, root: str) -> str:
        if not root:
            raise ValueError("must not be empty")
        if "://" in root and "@" in root.split("://", 1)[1].split("/", 1)[0]:
            raise ValueError("holds credentials; leave them out, they come from the environment")
        return root

    @property
    def local(self) -> Path:
        """A local directory for caches: below the root itself, or the cache of an object store."""
        return self.cache if "://" in self.root else Path(self.root)


class CostSettings(Section):
    """What the device costs, and how much of it may be used."""

    price_per_hour: float | None = Field(None, ge=0, description="of the device")
    currency: str = "EUR"
    device_hours: float | None = Field(
        None,
        gt=0,
        description="budget of this store, all that was ever made in it included",
    )


class NightlySettings(Section):
    """When the schedule `nightly` looks for stale parts."""

    cron: str = Field("0 2 * * *", pattern=r"^(\S+\s+){4}\S+$", description="minute hour day month weekday")
    time_zone: str = "UTC"

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        if name not in available_timezones():
            raise ValueError(f"unknown time zone {name!r}; give a name like Europe/Berlin")
        return name


class Settings(Section):
    """The whole params file."""

    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    artifacts: ArtifactSettings = ArtifactSettings()
    dataset: DatasetSettings
    classes: Distinct[str] = Field(CLASSES, min_length=1)
    selection: SelectionSettings = SelectionSettings()
    prompts: dict[str, PromptSettings]
    prompt_bank: PromptBankSettings | None = None
    generators: dict[Name, GeneratorSettings] = Field(default_factory=dict)
    judge: JudgeSettings | None = None
    gates: GateSettings = GateSettings()
    integration: IntegrationSettings = IntegrationSettings()
    refinement: RefinementSettings | None = None
    few_shot: FewShotSettings | None = None
    few_shot_instances: FewShotInstanceSettings | None = None
    semantics: SemanticsSettings | None = None
    arms: Distinct[Name] = Field(("real", "zoom_crop"), min_length=1)
    segmenters: dict[Name, SegmenterSettings] = Field(default_factory=dict)
    training_seeds: Distinct[int] = Field((0,), min_length=1)
    label_percents: Distinct[Annotated[int, Field(ge=1, le=100)]] = Field(
        (100,), min_length=1, description="shares of the train frames that arms are trained on, by fixed nested lists"
    )
    nightly: NightlySettings = NightlySettings()
    costs: CostSettings = CostSettings()

    @field_validator("classes")
    @classmethod
    def _known_classes(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [c for c in classes if c not in CLASSES]
        if unknown:
            raise ValueError(f"unknown class {unknown[0]!r}; Cityscapes instance classes are {', '.join(CLASSES)}")
        return classes

    @model_validator(mode="after")
    def _names_meet(self) -> Self:
        taken = [name for name in self.generators if name in _NOT_GENERATORS or name.endswith(REFINED)]
        if taken:
            raise ValueError(f"generators names {taken[0]!r}, which is the name of another arm; choose another")
        missing = [c for c in self.classes if c not in self.prompts]
        if missing:
            raise ValueError(f"prompts has no entry for class {missing[0]!r}")
        unknown = sorted(set(self.prompts) - set(self.classes))
        if unknown:
            raise ValueError(f"prompts names {unknown[0]!r}, which is not in classes")
        if self.prompt_bank and self.prompt_bank.encoder not in self.generators:
            raise ValueError(f"prompt_bank.encoder names {self.prompt_bank.encoder!r}, which is not in generators")
        for key in ("few_shot", "few_shot_instances"):
            section = getattr(self, key)
            if section and section.generator and section.generator not in self.generators:
                raise ValueError(f"{key}.generator names {section.generator!r}, which is not in generators")
        novel = set(self.few_shot_instances.novel if self.few_shot_instances else ())
        if not novel <= set(self.classes) or (novel and novel == set(self.classes)):
            raise ValueError(f"few_shot_instances.novel must be some of the classes, not {', '.join(sorted(novel))}")
        leaked = sorted(set(self.semantics.cities) & set(self.dataset.val_cities)) if self.semantics else []
        if leaked:
            raise ValueError(f"semantics.cities names {leaked[0]}, a val city; what is made of it would train")
        if min(self.label_percents) < 100:
            self._labels_suffice()
        if self.gates.closed and not self.judge:
            raise ValueError("gates have bounds but no judge scores the crops; add judge.clip")
        refined = [f"{name}{REFINED}" for name in self.generators] if self.refinement else []
        grouped = ["from_semantics"] if self.semantics else []
        sources = {*_NOT_GENERATORS[:3], *self.generators, *refined, *grouped}
        lost = [a for a in self.arms if a not in sources]
        if lost:
            hint = "; refined arms need a section refinement" if lost[0].endswith(REFINED) else ""
            raise ValueError(f"arms names {lost[0]!r}; known are {', '.join(sorted(sources))}{hint}")
        return self

    def _labels_suffice(self) -> None:
        """A share of the labels means that nothing in an arm was made with the others."""
        beyond = [arm for arm in self.arms if arm.endswith(REFINED) or arm == "from_semantics"]
        if beyond:
            raise ValueError(f"label_percents below 100: {beyond[0]!r} is made with the labels of all train frames")
        if self.gates.min_real_similarity is not None:
            raise ValueError("label_percents below 100: gates.min_real_similarity compares with all labelled instances")


def load_settings(path: Path | None = None) -> Settings:
    """Read a params file (default: $INSTSYNTH_PARAMS, then params.yaml in the working directory).

    Relative `dataset.root`, `artifacts.root` and `artifacts.exports` stay relative to the working directory.

    Raises:
        SettingsError: one line that names the file, the key and what is wrong with it.
    """
    path = path or Path(os.environ.get(PARAMS_ENV) or "params.yaml")
    try:
        return Settings.model_validate(read_params(path))
    except ValidationError as error:
        raise SettingsError(f"{path}: {_explain(error)}") from None


def _explain(error: ValidationError) -> str:
    first, *rest = error.errors()
    key = ".".join(str(part) for part in first["loc"]) or "params"
    if first["type"] == "extra_forbidden":
        message = "unknown key; remove it or correct its spelling"
    else:
        message = first["msg"].removeprefix("Value error, ")
    more = f" (and {len(rest)} more)" if rest else ""
    return f"{key}: {message}{more}"
