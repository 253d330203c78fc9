"""The prompts of each class."""

from __future__ import annotations

import dagster as dg

from assets.partitions import Graph
from assets.stored import Made, stored_asset
from instsynth_dagster.settings import Settings
from instsynth_dagster.store import PartitionWriter
from instsynth_dagster.synthesis.prompts import diverse_bank
from instsynth_dagster.synthesis.prompts import prompt_bank as template_bank
from resources.prompting import Prompting


def build(settings: Settings, graph: Graph) -> list[dg.AssetsDefinition]:
    @stored_asset(graph["prompt_bank"], graph, group="phase_2", kinds={"python"})
    def prompt_bank(out: PartitionWriter, class_name: str, prompting: Prompting) -> Made:
        """Accepted prompts of a class: the templates of the params file with every colour (InstSynth phase 2), and with
        a section `prompt_bank` what an agent proposes beyond them, each far enough from all before (HDIG)."""
        templates, recipe = settings.prompts[class_name], settings.prompt_bank
        if recipe is None:
            bank = template_bank(class_name, templates)
        else:
            bank = diverse_bank(class_name, templates, recipe, prompting.agent, prompting.encoder, settings.seed)
            out.summary["lambda"] = round(float(bank["threshold"].iloc[0]), 4)
        out.add_table(bank)
        out.summary["prompts"] = len(bank)
        return Made({"prompts_listed": dg.MetadataValue.md("\n".join(f"- {prompt}" for prompt in bank["prompt"]))})

    return [prompt_bank]
