"""Settings that a params file leaves to the data: cities, classes and labels of annotated images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from instsynth_dagster.errors import SettingsError
from instsynth_dagster.settings.data import AnnotatedImages, ArtifactSettings
from instsynth_dagster.settings.formats import DatasetSettings

if TYPE_CHECKING:
    from instsynth_dagster.data.index import Survey

_DATASET: TypeAdapter[Any] = TypeAdapter(DatasetSettings)


def fill_in_from_data(raw: dict[str, Any]) -> dict[str, Any]:
    """The sections of a params file, with the parts that they leave to the data filled in; otherwise unchanged.

    Raises:
        UnreadableError: a file that the section `dataset` names is missing.
        DatasetError: the annotations are not in their format.
    """
    try:
        dataset = _DATASET.validate_python(raw.get("dataset"))
        artifacts = ArtifactSettings.model_validate(raw.get("artifacts") or {})
    except ValidationError:
        return raw  # an error here is raised again, with its key, when all sections are validated
    if not isinstance(dataset, AnnotatedImages) or dataset.resolved:
        return raw
    from instsynth_dagster.data.opening import open_index

    if raw.get("label_table") is not None:
        raise SettingsError("label_table: the annotation files say what the labels are; leave it out")
    survey = open_index(dataset, artifacts.local).survey()
    return filled(raw, survey)


def filled(raw: dict[str, Any], survey: Survey) -> dict[str, Any]:
    """Sections with the cities and the label table of a survey and, where none are named, its classes and a window size
    in the proportions of its images.
    """
    section = {**raw["dataset"], "train_cities": survey.train_cities, "val_cities": survey.val_cities}
    named = [name for name in survey.labels.classes if survey.instances.get(name)] or survey.labels.classes
    from_data = {"dataset": section, "label_table": survey.labels, "classes": raw.get("classes") or tuple(named)}
    integration = raw.get("integration", {})
    if isinstance(integration, dict) and "window_size" not in integration:
        from_data["integration"] = {**integration, "window_size": survey.window_size}
    return {**raw, **from_data}
