"""Quality gates: scores of each repainted crop, without a verdict."""

from __future__ import annotations

from assets.shared.declaration import artifact
from assets.shared.made import Made
from assets.shared.painting import score_into
from instsynth_dagster.artifacts.declared import DeclaredStore
from instsynth_dagster.artifacts.store import PartitionWriter
from instsynth_dagster.graph import instances_asset, painting_arms
from instsynth_dagster.graph.refs import city_class_dimensions
from instsynth_dagster.settings import Settings
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
    """Scores of every repainted crop: class margin, similarity to other real instances and to its own source, change
    inside the mask, seam, sharpness, upscale. Verdicts follow from thresholds in `is_cityscapes`, so that an edited
    threshold repaints nothing.
    """
    assert settings.judge is not None
    return score_into(
        out,
        store.read_lazily(instances_asset(member), partition),
        store.read_lazily(f"{member}/inpainted_crops", partition),
        judge.clip(settings.judge),
        cut_out=settings.judge.cut_out,
        known=known,
    )
