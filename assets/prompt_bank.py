"""The prompts of each class: from templates alone, or with proposals of an agent."""

from __future__ import annotations

import pandas as pd

from assets.shared.declaration import artifact
from assets.shared.made import Check, Made, Markdown
from instsynth_dagster.artifacts.store import PartitionWriter
from instsynth_dagster.settings import PromptSettings, Settings
from instsynth_dagster.synthesis.prompts import diverse_bank
from instsynth_dagster.synthesis.prompts import prompt_bank as template_bank
from instsynth_dagster.synthesis.vocabulary import class_words, names_class
from resources.prompting import Prompting

WARNINGS = {"templates_name_the_class": "Every template of the params file names the class in the mask."}


@artifact(
    "prompt_bank",
    code_version="1",
    when=lambda settings: settings.prompt_bank is None,
    dimensions=lambda settings: {"class": settings.classes},
    settings=lambda at: [f"prompts.{at['class']}"],
    group="phase_2",
    kinds={"python"},
    warnings=WARNINGS,
)
def from_templates(out: PartitionWriter, class_name: str, settings: Settings) -> Made:
    """Prompts of a class: the templates of the params file with every colour (InstSynth phase 2)."""
    prompts = settings.prompts[class_name]
    return _store(out, template_bank(class_name, prompts), class_name, prompts)


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
    warnings=WARNINGS,
)
def diverse(out: PartitionWriter, class_name: str, settings: Settings, prompting: Prompting) -> Made:
    """Accepted prompts of a class: the templates of the params file with every colour (InstSynth phase 2), and
    proposals of an agent, each far enough from all earlier ones (HDIG).
    """
    recipe = settings.prompt_bank
    assert recipe is not None
    encoder = prompting.encoder(recipe.encoder, settings.generators[recipe.encoder])
    agent = prompting.agent(recipe.agent, settings.seed)
    prompts = settings.prompts[class_name]
    bank = diverse_bank(class_name, prompts, recipe, agent, encoder, settings.seed)
    out.summary["lambda"] = round(float(bank["threshold"].iloc[0]), 4)
    return _store(out, bank, class_name, prompts)


def _store(out: PartitionWriter, bank: pd.DataFrame, class_name: str, prompts: PromptSettings) -> Made:
    out.add_table(bank)
    out.summary["prompts"] = len(bank)
    return Made(
        {"prompts_listed": Markdown("\n".join(f"- {prompt}" for prompt in bank["prompt"]))},
        (named(class_name, prompts),),
    )


def named(class_name: str, prompts: PromptSettings) -> Check:
    """Whether the templates name the class. A template without the name may be intended, so this is only a warning."""
    unnamed = [template for template in prompts.templates if not names_class(template, class_name)]
    words = " or ".join(class_words(class_name))
    described = f"prompts.{class_name}.templates: {unnamed[0]!r} names no {words}" if unnamed else f"all name {words}"
    return Check("templates_name_the_class", not unnamed, described, {"unnamed": len(unnamed)}, blocking=False)
