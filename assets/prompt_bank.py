"""The prompts of each class."""

from __future__ import annotations

import dagster as dg

from assets.partitions import Graph
from assets.stored import Made, stored_asset
from instsynth_dagster.settings import Settings
from instsynth_dagster.store import PartitionWriter
from instsynth_dagster.synthesis.prompts import prompt_bank as make_bank


def build(settings: Settings, graph: Graph) -> list[dg.AssetsDefinition]:
    @stored_asset(graph["prompt_bank"], graph, group="phase_2_generation", kinds={"python"})
    def prompt_bank(out: PartitionWriter, class_name: str) -> Made:
        """Accepted prompts of a class: the templates of the params file with every colour (InstSynth phase 2)."""
        bank = make_bank(class_name, settings.prompts[class_name])
        out.add_table(bank)
        out.summary["prompts"] = len(bank)
        return Made({"prompts_listed": dg.MetadataValue.md("\n".join(f"- {prompt}" for prompt in bank["prompt"]))})

    return [prompt_bank]
