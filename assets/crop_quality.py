"""Quality gates: how good each repainted crop is, without a verdict."""

from __future__ import annotations

from assets.shared.declaration import artifact
from assets.shared.made import Made
from assets.shared.pictures import sheet_preview
from instsynth_dagster.artifacts.declared import DeclaredStore
from instsynth_dagster.artifacts.store import PartitionWriter
from instsynth_dagster.evaluation.report.gate_gallery import gate_sheet
from instsynth_dagster.graph import instances_asset, painting_arms
from instsynth_dagster.graph.refs import city_class_dimensions
from instsynth_dagster.settings import GateSettings, Settings
from instsynth_dagster.synthesis.gates import SCORES, gate_scores
from resources.judge import Judge


@artifact(
    "{member}/crop_quality",
    code_version="3",
    when=lambda settings: settings.judge,
    members=painting_arms,
    dimensions=city_class_dimensions,
    settings=["judge.clip", "judge.cut_out"],
    values={"known": lambda at: at.settings.labels.classes},
    reads=lambda at: [(instances_asset(at.member), at.partition), (f"{at.member}/inpainted_crops", at.partition)],
    group="phase_2",
    kinds={"transformers"},
)
def crop_quality(
    out: PartitionWriter,
    partition: str,
    member: str,
    settings: Settings,
    known: tuple[str, ...],
    store: DeclaredStore,
    judge: Judge,
) -> Made:
    """Scores of every repainted crop: class margin, similarity to other real instances and to its own source,
    change inside the mask, seam, sharpness, upscale. Verdicts follow from thresholds in `is_cityscapes`, so an
    edited threshold repaints nothing.
    """
    assert settings.judge is not None
    selected = store.read_lightly(instances_asset(member), partition)
    crops = store.read_lightly(f"{member}/inpainted_crops", partition)
    scores = gate_scores(selected, crops, judge.clip(settings.judge), settings.judge.cut_out, known)
    if scores.empty:
        return Made()
    out.add_table(scores)
    out.summary.update({score: round(float(scores[score].mean()), 4) for score in SCORES})
    everything = GateSettings()  # verdicts are those of `is_cityscapes`
    return Made({"preview": sheet_preview(gate_sheet(selected, crops, scores, everything))})
