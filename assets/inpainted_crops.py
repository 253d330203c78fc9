"""Phase 2: a generator repaints the selected instances inside their masks."""

from __future__ import annotations

from itertools import islice
from typing import Any

from assets.shared.declaration import artifact
from assets.shared.made import Made
from assets.shared.pictures import PREVIEWED_CROPS, crops_preview
from instsynth_dagster.artifacts.declared import DeclaredStore
from instsynth_dagster.artifacts.store import PartitionWriter
from instsynth_dagster.graph import generator_of, instances_asset, painting_arms
from instsynth_dagster.graph.refs import city_class_dimensions
from instsynth_dagster.settings import Settings
from instsynth_dagster.synthesis.generators.base import repaint
from resources.generators import Generators


@artifact(
    "{member}/inpainted_crops",
    code_version="2",
    members=painting_arms,
    dimensions=city_class_dimensions,
    settings=lambda at: [f"generators.{generator_of(at.member)}", "seed", "gates.spares"],
    reads=lambda at: [(instances_asset(at.member), at.partition), ("prompt_bank", at["class"])],
    group="phase_2",
    kinds={"diffusers", "pytorch"},
)
def inpainted_crops(
    out: PartitionWriter, partition: str, member: str, settings: Settings, store: DeclaredStore, generators: Generators
) -> Made:
    """Selected instances repainted by a diffusion model inside their own masks (InstSynth phase 2); for an arm that
    ends in `_insert` where they stand in other frames.

    Seeds come from content (instance, prompt, generator, replica, base seed), so a killed run goes on with the
    next crop and ends with the same digest. Rows carry full provenance.
    """
    recipe = settings.generators[generator_of(member)]
    selected = store.read_lightly(instances_asset(member), partition)
    bank = store.read("prompt_bank", partition.split("|")[1])
    metadata: dict[str, Any] = {}
    if len(selected):
        generator = generators.load(generator_of(member), recipe)
        rows = repaint(
            generator,
            member,
            selected,
            bank,
            recipe,
            settings.seed,
            replicas=recipe.replicas + settings.gates.spares,
            skip=out.resumed_rows,
            meter=out.meter,
            tally=generators.tally(generator_of(member)),
        )
        for row in rows:
            out.add(row)
        out.meter.check_refused()
        metadata["licence_of_published_weights"] = generator.capabilities.licence
    out.summary["crops"] = out.rows
    metadata["seconds_per_crop"] = round(out.device_seconds / max(out.rows, 1), 3)
    if shown := list(islice(out.stored_rows(["instance_id", "prompt", "image_png"]), PREVIEWED_CROPS)):
        metadata["preview"] = crops_preview(shown, "image_png")
    return Made(metadata)
