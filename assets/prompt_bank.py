"""The prompts of each class."""

from __future__ import annotations

import dagster as dg
import pandas as pd

from assets.shared.partitions import Graph
from assets.shared.stored import Made, stored_asset
from instsynth_dagster.artifacts.store import PartitionWriter
from instsynth_dagster.settings import PromptBankSettings, Settings
from instsynth_dagster.synthesis.prompts import diverse_bank
from instsynth_dagster.synthesis.prompts import prompt_bank as template_bank
from resources.prompting import Prompting


def build(settings: Settings, graph: Graph) -> list[dg.AssetsDefinition]:
    recipe = settings.prompt_bank
    return [_from_templates(settings, graph) if recipe is None else _diverse(settings, recipe, graph)]


def _from_templates(settings: Settings, graph: Graph) -> dg.AssetsDefinition:
    @stored_asset(graph["prompt_bank"], graph, group="phase_2", kinds={"python"})
    def prompt_bank(out: PartitionWriter, class_name: str) -> Made:
        """Prompts of a class: the templates of the params file with every colour (InstSynth phase 2)."""
        return _store(out, template_bank(class_name, settings.prompts[class_name]))

    return prompt_bank


def _diverse(settings: Settings, recipe: PromptBankSettings, graph: Graph) -> dg.AssetsDefinition:
    @stored_asset(graph["prompt_bank"], graph, group="phase_2", kinds={"python", "transformers"})
    def prompt_bank(out: PartitionWriter, class_name: str, prompting: Prompting) -> Made:
        """Accepted prompts of a class: the templates of the params file with every colour (InstSynth phase 2), and what
        an agent proposes beyond them, each far enough from all before (HDIG)."""
        templates = settings.prompts[class_name]
        bank = diverse_bank(class_name, templates, recipe, prompting.agent, prompting.encoder, settings.seed)
        out.summary["lambda"] = round(float(bank["threshold"].iloc[0]), 4)
        return _store(out, bank)

    return prompt_bank


def _store(out: PartitionWriter, bank: pd.DataFrame) -> Made:
    out.add_table(bank)
    out.summary["prompts"] = len(bank)
    return Made({"prompts_listed": dg.MetadataValue.md("\n".join(f"- {prompt}" for prompt in bank["prompt"]))})
