"""The whole params file, and reading it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.errors import SettingsError
from instsynth_dagster.settings.anonymisation import AnonymiseSettings
from instsynth_dagster.settings.base import Distinct, Name, Role, Section
from instsynth_dagster.settings.data import ArtifactSettings, CityscapesTree, ExportSettings
from instsynth_dagster.settings.drawn import check_spelling
from instsynth_dagster.settings.few_labels import FewShotInstanceSettings, FewShotSettings, SemanticsSettings
from instsynth_dagster.settings.folders import check_disjoint
from instsynth_dagster.settings.formats import DatasetSettings
from instsynth_dagster.settings.operation import CostSettings, EvaluationSettings, NightlySettings, WorkerSettings
from instsynth_dagster.settings.params_file import PARAMS_ENV, read_params
from instsynth_dagster.settings.refinement import RefinementSettings
from instsynth_dagster.settings.resolving import fill_in_from_data
from instsynth_dagster.settings.segmentation import SegmenterSettings
from instsynth_dagster.settings.synthesis import (
    CaptionSettings,
    GateSettings,
    GeneratorSettings,
    IntegrationSettings,
    JudgeSettings,
    MaskJudgeSettings,
    PromptBankSettings,
    PromptSettings,
    SelectionSettings,
    plain_prompts,
)

REFINED = "_refined"
"""Suffix of the arm that trains on a generator's refined pseudo-labels."""

FRAME = "_frame"
"""Suffix of the arm that trains on whole frames with all accepted repaintings instead of focused windows."""

INSERT = "_insert"
"""Suffix of the arm that trains on instances at new places."""

ARMS_WITHOUT_GENERATOR = (
    "real",
    "zoom_crop",
    "copy_paste",
    "color_jitter",
    "oracle",
    "copy_paste_insert",
    "from_semantics",
    "anonymised",
)
RESERVED = frozenset(
    {
        *ARMS_WITHOUT_GENERATOR,
        "captions",
        "demo_city",
        "evaluation_tables",
        "frames",
        "fsis_base",
        "fsis_scores",
        "fsis_table",
        "gfss_scores",
        "gfss_table",
        "grouping_scores",
        "insertions",
        "mask_judges",
        "image_quality",
        "instances",
        "instances_from_semantics",
        "lighting",
        "prompt_bank",
        "prototypes",
        "report",
        "segmentation_scores",
        "segmenter_costs",
        "selected_instances",
        "siseg",
        "splits",
        "trained_segmenters",
        "training_sets",
    }
)
"""Names that a generator may not have: other arms, and assets in whose folder a generator's own would lie."""


class Settings(Section):
    """The whole params file."""

    seed: int = 0
    device: Annotated[Literal["auto", "cpu", "cuda"], Role.EXECUTION] = "auto"
    artifacts: ArtifactSettings = ArtifactSettings()
    exports: ExportSettings = ExportSettings()
    dataset: DatasetSettings
    label_table: LabelTable | None = Field(None, description="labels of the id maps; default: those of the format")
    classes: Distinct[str] = Field(min_length=1)
    selection: SelectionSettings = SelectionSettings()
    prompts: dict[str, PromptSettings] = Field(default_factory=dict)
    prompt_bank: PromptBankSettings | None = None
    captions: CaptionSettings | None = None
    generators: dict[Name, GeneratorSettings] = Field(default_factory=dict)
    judge: JudgeSettings | None = None
    gates: GateSettings = GateSettings()
    integration: IntegrationSettings = IntegrationSettings()
    refinement: RefinementSettings | None = None
    anonymise: AnonymiseSettings | None = None
    few_shot: FewShotSettings | None = None
    few_shot_instances: FewShotInstanceSettings | None = None
    semantics: SemanticsSettings | None = None
    arms: Distinct[Name] = Field(("real", "zoom_crop"), min_length=1)
    segmenters: dict[Name, SegmenterSettings] = Field(default_factory=dict)
    training_seeds: Distinct[int] = Field((0,), min_length=1)
    label_percents: Distinct[Annotated[int, Field(ge=1, le=100)]] = Field(
        (100,), min_length=1, description="shares of the train frames that arms are trained on, by fixed nested lists"
    )
    evaluation: EvaluationSettings = EvaluationSettings()
    workers: Annotated[WorkerSettings, Role.EXECUTION] = WorkerSettings()
    nightly: Annotated[NightlySettings, Role.EXECUTION] = NightlySettings()
    costs: Annotated[CostSettings, Role.EXECUTION] = CostSettings()

    @property
    def labels(self) -> LabelTable:
        """The label table of the data set's id maps."""
        return self.label_table or CITYSCAPES

    @model_validator(mode="before")
    @classmethod
    def _from_the_labels(cls, raw: Any) -> Any:
        """Fill in missing `classes` and `prompts`: all evaluated classes, and a plain prompt for each."""
        if not isinstance(raw, dict):
            return raw
        table = raw.get("label_table")
        labels = CITYSCAPES if table is None else TypeAdapter(LabelTable).validate_python(table)
        classes, prompts = raw.get("classes", labels.classes), raw.get("prompts", {})
        if isinstance(prompts, dict) and isinstance(classes, list | tuple):
            plain = {name: plain_prompts(name) for name in classes if isinstance(name, str)}
            prompts = {name: prompts.get(name, plain[name]) for name in plain} | prompts
        return {**raw, "classes": classes, "prompts": prompts}

    @model_validator(mode="after")
    def _references_exist(self) -> Self:
        check_disjoint(self.artifacts.folders | {"dataset.root": self.dataset.root})
        taken = [name for name in self.generators if name in RESERVED or name.endswith((REFINED, FRAME, INSERT))]
        if taken:
            raise ValueError(f"generators names {taken[0]!r}, the name of another arm or asset; choose another")
        strange = [c for c in self.classes if c not in self.labels.classes]
        if strange:
            raise ValueError(f"classes names {strange[0]!r}; the data set has {_some(self.labels.classes)}")
        unknown = sorted(set(self.prompts) - set(self.classes))
        if unknown:
            raise ValueError(f"prompts names {unknown[0]!r}, which is not in classes")
        for name in self.classes:
            if self.prompts[name].wants("description") and not self.captions:
                raise ValueError(f"prompts.{name}.templates hold {{description}}; add captions.model")
        if self.prompt_bank and self.prompt_bank.encoder not in self.generators:
            raise ValueError(f"prompt_bank.encoder names {self.prompt_bank.encoder!r}, which is not in generators")
        for key in ("few_shot", "few_shot_instances"):
            section = getattr(self, key)
            if section and section.generator and section.generator not in self.generators:
                raise ValueError(f"{key}.generator names {section.generator!r}, which is not in generators")
        novel = set(self.few_shot_instances.novel if self.few_shot_instances else ())
        if not novel <= set(self.classes) or (novel and novel == set(self.classes)):
            raise ValueError(f"few_shot_instances.novel must be some of the classes, not {', '.join(sorted(novel))}")
        held_out = {*self.dataset.val_cities, *self.dataset.test_cities}
        leaked = sorted(set(self.semantics.cities) & held_out) if self.semantics else []
        if leaked:
            raise ValueError(f"semantics.cities names {leaked[0]}, a val or test city; what is made of it would train")
        if isinstance(self.dataset, CityscapesTree):
            self._left_out(self.dataset)
        counted = self.dataset.demo_city.train_counts if self.dataset.demo_city else {}
        if strange := sorted(set(counted) - set(self.classes)):
            raise ValueError(f"dataset.demo_city.train_counts names {strange[0]!r}, which is not in classes")
        if min(self.label_percents) < 100:
            self._labels_suffice()
        if self.gates.has_bounds and not self.judge:
            raise ValueError("gates have bounds but no judge scores the crops; add judge.clip")
        self._check_mask_judge(self.judge.masks if self.judge else None)
        if self.anonymise:
            self._anonymises(self.anonymise)
        known = self._known_arms()
        lost = [a for a in self.arms if a not in known]
        if lost:
            hint = "; refined arms need a section refinement" if lost[0].endswith(REFINED) else ""
            hint += "; anonymised needs a section anonymise" if lost[0] == "anonymised" else ""
            hint += "; an oracle needs dataset.demo_city" if lost[0].startswith("oracle") else ""
            raise ValueError(f"arms names {lost[0]!r}; known are {', '.join(sorted(known))}{hint}")
        return self

    def _left_out(self, dataset: CityscapesTree) -> None:
        """Only frames of cities that are named can be left out of them."""
        semantic = self.semantics.cities if self.semantics else ()
        cities = {*dataset.train_cities, *dataset.val_cities, *dataset.test_cities, *semantic}
        if strange := [name for name in dataset.leave_out if name.rsplit("_", 2)[0] not in cities]:
            raise ValueError(f"dataset.leave_out names {strange[0]!r}, a frame of no city that is named here")

    def _known_arms(self) -> set[str]:
        repainting = [*self.generators, "color_jitter", *(["oracle"] if self.dataset.demo_city else [])]
        refined = [f"{name}{REFINED}" for name in self.generators] if self.refinement else []
        instead = [*(["from_semantics"] if self.semantics else []), *(["anonymised"] if self.anonymise else [])]
        frames = [f"{name}{FRAME}" for name in repainting]
        inserts = [f"{name}{INSERT}" for name in ("copy_paste", *self.generators)]
        return {"real", "zoom_crop", "copy_paste", *repainting, *frames, *inserts, *refined, *instead}

    def _check_mask_judge(self, masks: MaskJudgeSettings | None) -> None:
        """Check that the gate on masks has a judge, and that its segmenter is trained on other frames than those that
        it judges.
        """
        if self.gates.min_mask_iou is not None and not masks:
            raise ValueError("gates.min_mask_iou needs a segmenter that predicts masks; add judge.masks")
        if self.gates.min_mask_iou is not None and self.anonymise:
            raise ValueError("gates.min_mask_iou does not judge what is anonymised; leave it out of this params file")
        if masks and masks.segmenter not in self.segmenters:
            raise ValueError(f"judge.masks.segmenter names {masks.segmenter!r}, which is not in segmenters")
        if masks and not masks.checkpoint and len(self.dataset.train_cities) < 2:
            raise ValueError(
                "judge.masks: a city is judged by what was trained on the others, and there is one train city only; "
                "name more in dataset.train_cities, or a checkpoint that was trained elsewhere"
            )

    def _anonymises(self, section: AnonymiseSettings) -> None:
        """Check that an anonymised export is complete, and that no other export shows what it hides."""
        if section.generator not in self.generators:
            raise ValueError(f"anonymise.generator names {section.generator!r}, which is not in generators")
        if strange := [name for name in section.classes if name not in self.labels.by_name]:
            raise ValueError(
                f"anonymise.classes names {strange[0]!r}; the data set has {_some([*self.labels.by_name])}"
            )
        if (strength := self.generators[section.generator].strength) < 1:
            raise ValueError(
                f"anonymise: generators.{section.generator}.strength is {strength:g}; below 1 a repainting starts from "
                "the pixels that are to be hidden"
            )
        if self.generators[section.generator].kind == "controlnet_inpaint":
            raise ValueError(
                f"anonymise.generator names {section.generator!r}, which reads the edges of what is hidden; "
                "choose one that is not"
            )
        hidden = [name for name in section.classes if name in self.prompts]
        if describing := [name for name in hidden if self.prompts[name].wants("description")]:
            raise ValueError(
                f"anonymise: prompts.{describing[0]}.templates hold {{description}}, which describes what is hidden; "
                "leave it out"
            )
        windows = [
            *(name for name in self.generators if name != section.generator),
            *(arm for arm in self.arms if arm not in ("real", "from_semantics", "anonymised")),
        ]
        if windows and self.artifacts.exports:
            raise ValueError(
                f"anonymise: exports of {windows[0]!r} would show what the anonymised export hides; leave it out, and "
                "make windows of the anonymised data set with a params file of its own (docs/anonymise.md)"
            )

    def _labels_suffice(self) -> None:
        """Check that nothing in an arm with a share of the labels is made with the other labels."""
        beyond = [arm for arm in self.arms if arm.endswith((REFINED, INSERT)) or arm == "from_semantics"]
        if beyond:
            raise ValueError(f"label_percents below 100: {beyond[0]!r} is made with the labels of all train frames")
        if self.gates.min_real_similarity is not None:
            raise ValueError("label_percents below 100: gates.min_real_similarity compares with all labelled instances")


def load_settings(path: Path | None = None) -> Settings:
    """The settings of a params file (default: $INSTSYNTH_PARAMS, then params.yaml in the working directory).

    Relative `dataset.root`, `artifacts.root` and `artifacts.exports` stay relative to the working directory.

    Raises:
        SettingsError: one line that names the file, the key and what is wrong with it.
    """
    path = path or Path(os.environ.get(PARAMS_ENV) or "params.yaml")
    try:
        settings = Settings.model_validate(fill_in_from_data(read_params(path)))
    except ValidationError as error:
        raise SettingsError(f"{path}: {_explain(error)}") from None
    if isinstance(settings.dataset, CityscapesTree):
        try:
            check_spelling(settings.dataset)
        except SettingsError as error:
            raise SettingsError(f"{path}: {error}") from None
    return settings


def _some(names: Sequence[str], most: int = 20) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _explain(error: ValidationError) -> str:
    first, *rest = error.errors()
    place = first["loc"][:1] + first["loc"][1 + (first["loc"][0] == "dataset") :] if first["loc"] else ("params",)
    key = ".".join(str(part) for part in place)
    if first["type"] == "extra_forbidden":
        message = "unknown key; remove it or correct its spelling"
    else:
        message = first["msg"].removeprefix("Value error, ")
    more = f" (and {len(rest)} more)" if rest else ""
    return f"{key}: {message}{more}"
