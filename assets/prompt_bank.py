"""The prompts of each class: from templates alone, or with what an agent proposes beyond them."""

from __future__ import annotations

import pandas as pd

from assets.shared.declaration import artifact
from assets.shared.made import Made, Markdown
from instsynth_dagster.artifacts.store import PartitionWriter
from instsynth_dagster.settings import Settings
from instsynth_dagster.synthesis.prompts import diverse_bank
from instsynth_dagster.synthesis.prompts import prompt_bank as template_bank
from resources.prompting import Prompting


@artifact(
    "prompt_bank",
    code_version="1",
    when=lambda settings: settings.prompt_bank is None,
    dimensions=lambda settings: {"class": settings.classes},
    settings=lambda at: [f"prompts.{at['class']}"],
    group="phase_2",
    kinds={"python"},
)
def from_templates(out: PartitionWriter, class_name: str, settings: Settings) -> Made:
    """Prompts of a class: the templates of the params file with every colour (InstSynth phase 2)."""
    return _store(out, template_bank(class_name, settings.prompts[class_name]))


@artifact(
    "prompt_bank",
    code_version="1",
    when=lambda settings: settings.prompt_bank,
    dimensions=lambda settings: {"class": settings.classes},
    settings=lambda at: [
        f"prompts.{at['class']}",
        "prompt_bank",
        "seed",
        *([f"generators.{bank.encoder}.model"] if (bank := at.settings.prompt_bank) else []),
    ],
    group="phase_2",
    kinds={"python", "transformers"},
)
def diverse(out: PartitionWriter, class_name: str, settings: Settings, prompting: Prompting) -> Made:
    """Accepted prompts of a class: the templates of the params file with every colour (InstSynth phase 2), and what
    an agent proposes beyond them, each far enough from all before (HDIG)."""
    recipe = settings.prompt_bank
    assert recipe is not None
    encoder = prompting.encoder(recipe.encoder, settings.generators[recipe.encoder])
    agent = prompting.agent(recipe.agent, settings.seed)
    bank = diverse_bank(class_name, settings.prompts[class_name], recipe, agent, encoder, settings.seed)
    out.summary["lambda"] = round(float(bank["threshold"].iloc[0]), 4)
    return _store(out, bank)


def _store(out: PartitionWriter, bank: pd.DataFrame) -> Made:
    out.add_table(bank)
    out.summary["prompts"] = len(bank)
    return Made({"prompts_listed": Markdown("\n".join(f"- {prompt}" for prompt in bank["prompt"]))})
