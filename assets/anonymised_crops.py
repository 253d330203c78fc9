"""Repaintings that replace hidden objects."""

from __future__ import annotations

from assets.shared.declaration import At, artifact
from assets.shared.made import Made
from assets.shared.painting import paint_into, with_words
from instsynth_dagster.artifacts.declared import DeclaredStore
from instsynth_dagster.artifacts.store import PartitionWriter
from instsynth_dagster.graph import ANONYMISED
from instsynth_dagster.graph.refs import anonymised_dimensions, words_for
from instsynth_dagster.settings import Settings
from resources.generators import Generators


def _settings(at: At) -> list[str]:
    assert at.settings.anonymise is not None
    return ["anonymise.generator", f"generators.{at.settings.anonymise.generator}", "seed", "gates.spares"]


@artifact(
    "anonymised/inpainted_crops",
    code_version="1",
    when=lambda settings: settings.anonymise,
    dimensions=anonymised_dimensions,
    settings=_settings,
    reads=lambda at: [
        ("anonymised/selected_instances", at.partition),
        ("prompt_bank", at["class"]),
        *words_for(at.settings, [at["city"]], [at["class"]]),
    ],
    group="anonymisation",
    kinds={"diffusers", "pytorch"},
)
def anonymised_crops(
    out: PartitionWriter, partition: str, settings: Settings, store: DeclaredStore, generators: Generators
) -> Made:
    """Hidden instances repainted inside their own masks, once each and `gates.spares` further times."""
    assert settings.anonymise is not None
    name = settings.anonymise.generator
    bank = store.read("prompt_bank", partition.split("|")[1])
    return paint_into(
        out,
        generators,
        name,
        settings.generators[name],
        arm=ANONYMISED,
        selected=with_words(store.read_lazily("anonymised/selected_instances", partition), bank, store),
        bank=bank,
        seed=settings.seed,
        replicas=1 + settings.gates.spares,
    )
