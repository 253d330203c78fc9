"""Phase 2: a generator repaints the selected instances inside their masks."""

from __future__ import annotations

from assets.shared.declaration import artifact
from assets.shared.made import Made
from assets.shared.painting import paint_into, with_words
from instsynth_dagster.artifacts.declared import DeclaredStore
from instsynth_dagster.artifacts.store import PartitionWriter
from instsynth_dagster.graph import generator_of, instances_asset, painting_arms
from instsynth_dagster.graph.refs import city_class_dimensions, words_for
from instsynth_dagster.settings import Settings
from resources.generators import Generators


@artifact(
    "{member}/inpainted_crops",
    code_version="2",
    members=painting_arms,
    dimensions=city_class_dimensions,
    settings=lambda at: [f"generators.{generator_of(at.member)}", "seed", "gates.spares"],
    reads=lambda at: [
        (instances_asset(at.member), at.partition),
        ("prompt_bank", at["class"]),
        *words_for(at.settings, [at["city"]], [at["class"]]),
    ],
    group="phase_2",
    kinds={"diffusers", "pytorch"},
)
def inpainted_crops(
    out: PartitionWriter, partition: str, member: str, settings: Settings, store: DeclaredStore, generators: Generators
) -> Made:
    """Selected instances repainted by a diffusion model inside their own masks (InstSynth phase 2); for an arm with the
    suffix `_insert` at their places in other frames.

    Seeds come from content (instance, prompt, generator, replica, base seed), so that a killed run continues with the
    next crop and ends with the same digest. Rows carry full provenance.
    """
    name = generator_of(member)
    recipe = settings.generators[name]
    bank = store.read("prompt_bank", partition.split("|")[1])
    return paint_into(
        out,
        generators,
        name,
        recipe,
        arm=member,
        selected=with_words(store.read_lazily(instances_asset(member), partition), bank, store),
        bank=bank,
        seed=settings.seed,
        replicas=recipe.replicas + settings.gates.spares,
    )
