"""The prompt bank: templates of the params file with every colour (InstSynth section III-B)."""

from __future__ import annotations

import re

import pandas as pd

from instsynth_dagster.errors import SettingsError
from instsynth_dagster.seeds import content_seed
from instsynth_dagster.settings import PromptSettings

_CLASS_WORDS = {"person": ("person", "man", "woman"), "rider": ("rider",)}


def prompt_bank(class_name: str, settings: PromptSettings) -> pd.DataFrame:
    """Every template with every colour, in the order of the params file, each once.

    Returns:
        Columns class_name, prompt.

    Raises:
        SettingsError: a template does not name the class.
    """
    words = _CLASS_WORDS.get(class_name, (class_name,))
    for template in settings.templates:
        if not any(re.search(rf"\b{word}\b", template, re.IGNORECASE) for word in words):
            raise SettingsError(
                f"prompts.{class_name}.templates: {template!r} names no {' or '.join(words)}; add the word"
            )
    prompts = [
        template.format(color=color) if "{color}" in template else template
        for template in settings.templates
        for color in settings.colors or ("",)
    ]
    return pd.DataFrame({"class_name": class_name, "prompt": list(dict.fromkeys(prompts))})


def choose_prompt(bank: pd.DataFrame, instance_id: str, replica: int, seed: int) -> str:
    """A prompt for one repainting, drawn by content: independent of order and of other instances."""
    return str(bank["prompt"].iloc[content_seed("prompt", instance_id, replica, seed) % len(bank)])
