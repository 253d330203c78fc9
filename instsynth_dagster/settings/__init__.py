"""Typed settings of params.yaml, one field for each setting.

Every section is frozen and rejects unknown keys, so that a misspelled key is an error and never a silent default.
"""

from instsynth_dagster.settings.anonymisation import AnonymiseSettings
from instsynth_dagster.settings.checkpoint import CheckpointRef
from instsynth_dagster.settings.data import (
    AnnotatedImages,
    ArtifactSettings,
    CityscapesTree,
    DemoCitySettings,
    ExportSettings,
)
from instsynth_dagster.settings.few_labels import (
    FewShotInstanceSettings,
    FewShotSettings,
    FewShotSystem,
    SemanticsSettings,
)
from instsynth_dagster.settings.formats import CocoImages, DatasetSettings
from instsynth_dagster.settings.operation import CostSettings, NightlySettings, WorkerSettings
from instsynth_dagster.settings.params import FRAME, INSERT, REFINED, Settings, load_settings
from instsynth_dagster.settings.refinement import BoundarySettings, FeatureSettings, RefinementSettings
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
)

__all__ = [
    "FRAME",
    "INSERT",
    "REFINED",
    "AnnotatedImages",
    "AnonymiseSettings",
    "ArtifactSettings",
    "BoundarySettings",
    "CaptionSettings",
    "CheckpointRef",
    "CityscapesTree",
    "CocoImages",
    "CostSettings",
    "DatasetSettings",
    "DemoCitySettings",
    "ExportSettings",
    "FeatureSettings",
    "FewShotInstanceSettings",
    "FewShotSettings",
    "FewShotSystem",
    "GateSettings",
    "GeneratorSettings",
    "IntegrationSettings",
    "JudgeSettings",
    "MaskJudgeSettings",
    "NightlySettings",
    "PromptBankSettings",
    "PromptSettings",
    "RefinementSettings",
    "SegmenterSettings",
    "SelectionSettings",
    "SemanticsSettings",
    "Settings",
    "WorkerSettings",
    "load_settings",
]
