"""Scores of the repaintings that replace hidden objects."""

from __future__ import annotations

from assets.shared.declaration import artifact
from assets.shared.made import Made
from assets.shared.painting import score_into
from instsynth_dagster.artifacts.declared import DeclaredStore
from instsynth_dagster.artifacts.store import PartitionWriter
from instsynth_dagster.graph.refs import anonymised_dimensions
from instsynth_dagster.settings import Settings
from resources.judge import Judge


@artifact(
    "anonymised/crop_quality",
    code_version="1",
    when=lambda settings: settings.anonymise and settings.judge,
    dimensions=anonymised_dimensions,
    settings=["judge.clip", "judge.cut_out"],
    values={"known": lambda at: at.settings.labels.classes},
    reads=lambda at: [(f"anonymised/{kind}", at.partition) for kind in ("selected_instances", "inpainted_crops")],
    group="anonymisation",
    kinds={"transformers"},
)
def anonymised_quality(
    out: PartitionWriter,
    partition: str,
    settings: Settings,
    known: tuple[str, ...],
    store: DeclaredStore,
    judge: Judge,
) -> Made:
    """The scores of `crop_quality`; objects whose crops the gates reject become coarse in `anonymised/frames`."""
    assert settings.judge is not None
    return score_into(
        out,
        store.read_lazily("anonymised/selected_instances", partition),
        store.read_lazily("anonymised/inpainted_crops", partition),
        judge.clip(settings.judge),
        cut_out=settings.judge.cut_out,
        known=known,
    )
