"""Captions of instances, for templates with {description}."""

from __future__ import annotations

from itertools import islice

from assets.shared.declaration import artifact
from assets.shared.made import Made, Markdown
from assets.shared.pictures import PREVIEWED_CROPS
from instsynth_dagster.artifacts.declared import DeclaredStore
from instsynth_dagster.artifacts.store import PartitionWriter
from instsynth_dagster.graph.refs import captioned_classes
from instsynth_dagster.settings import Settings
from instsynth_dagster.synthesis.crops import focus
from instsynth_dagster.synthesis.gates import Sources
from resources.prompting import Prompting


@artifact(
    "captions",
    code_version="1",
    when=captioned_classes,
    dimensions=lambda settings: {"city": settings.dataset.train_cities, "class": captioned_classes(settings)},
    settings=["captions"],
    reads=lambda at: [("selected_instances", at.partition)],
    group="phase_2",
    kinds={"transformers"},
)
def captions(
    out: PartitionWriter, partition: str, settings: Settings, store: DeclaredStore, prompting: Prompting
) -> Made:
    """The text for {description} in templates: a caption of each selected instance, written once for all generators and
    replicas.
    """
    assert settings.captions is not None
    selected = store.read_lazily("selected_instances", partition)
    if len(selected):
        captioner, sources = prompting.captioner(settings.captions), Sources(selected)
        for instance in selected["instance_id"].tolist()[out.resumed_rows :]:
            out.add({"instance_id": instance, "description": captioner.caption(focus(*sources[instance]))})
    out.summary["captions"] = out.rows
    shown = islice(out.stored_rows(["description"]), PREVIEWED_CROPS)
    return Made({"preview": Markdown("\n".join(f"- {row['description']}" for row in shown))})
