"""The prompt bank: templates with every colour (InstSynth section III-B), and optionally a diverse bank (HDIG)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from instsynth_dagster.seeds import content_seed
from instsynth_dagster.settings import PromptBankSettings, PromptSettings
from instsynth_dagster.settings.synthesis import PLACEHOLDERS
from instsynth_dagster.synthesis.prompt_agents import Agent, GrammarAgent
from instsynth_dagster.synthesis.vocabulary import names_class

_CALIBRATION = 256
"""Number of random captions of a class from which lambda is computed."""

_PLACEHOLDER = re.compile(rf"\{{({'|'.join(PLACEHOLDERS)})\}}")

Embed = Callable[[Sequence[str]], np.ndarray]
"""Texts -> unit vectors float32 (N, D)."""


def prompt_bank(class_name: str, settings: PromptSettings) -> pd.DataFrame:
    """Every template with every colour, in the order of the params file, without repetitions.

    Returns:
        Columns class_name, prompt; the placeholders {lighting} and {description} are not filled in yet.
    """
    prompts = [
        template.replace("{color}", color) for template in settings.templates for color in settings.colors or ("",)
    ]
    return pd.DataFrame({"class_name": class_name, "prompt": list(dict.fromkeys(prompts))})


def diverse_bank(
    class_name: str, settings: PromptSettings, bank: PromptBankSettings, agent: Agent, embed: Embed, seed: int
) -> pd.DataFrame:
    """Syn4Seg's bank: a prompt is accepted when its greatest cosine to the accepted ones is below lambda.

    Templates come first, then proposals of the agent, until the bank has `bank.size` prompts or `bank.max_rejections`
    candidates were rejected. A candidate that does not name the class is rejected too.

    Returns:
        Columns class_name, prompt, embedding (list of float32), similarity (greatest cosine to the earlier prompts, NaN
        for the first) and threshold (lambda).
    """
    threshold = calibrate(class_name, embed, bank.quantile, seed)
    inside: list[tuple[str, np.ndarray, float]] = []
    rejections = 0
    for prompt in _candidates(class_name, settings, agent, inside):
        vector = embed([prompt])[0]
        nearest = max((float(vector @ other) for _, other, _ in inside), default=float("nan"))
        if names_class(prompt, class_name) and not nearest >= threshold:
            inside.append((prompt, vector, nearest))
        else:
            rejections += 1
        if len(inside) == bank.size or rejections == bank.max_rejections:
            break
    return pd.DataFrame(
        {
            "class_name": class_name,
            "prompt": [prompt for prompt, _, _ in inside],
            "embedding": [vector.tolist() for _, vector, _ in inside],
            "similarity": [nearest for _, _, nearest in inside],
            "threshold": threshold,
        }
    )


def calibrate(class_name: str, embed: Embed, quantile: float, seed: int) -> float:
    """Lambda: a quantile of the cosines between random captions of a class, embedded by an encoder."""
    grammar = GrammarAgent(content_seed("calibration", seed))
    captions = list(dict.fromkeys(grammar.propose(class_name, attempt) for attempt in range(_CALIBRATION)))
    vectors = embed(captions)
    return float(np.quantile((vectors @ vectors.T)[np.triu_indices(len(vectors), 1)], quantile))


def _candidates(
    class_name: str, settings: PromptSettings, agent: Agent, inside: Sequence[tuple[str, np.ndarray, float]]
) -> Iterator[str]:
    yield from prompt_bank(class_name, settings)["prompt"]
    attempt = 0
    while True:
        yield agent.propose(class_name, attempt, [prompt for prompt, _, _ in inside])
        attempt += 1


def choose_prompt(bank: pd.DataFrame, instance_id: str, replica: int, seed: int) -> str:
    """The prompt of one repainting, drawn by content: independent of order and of other instances."""
    return str(bank["prompt"].iloc[content_seed("prompt", instance_id, replica, seed) % len(bank)])


def placeholders(prompts: Iterable[str]) -> set[str]:
    """The placeholders that prompts of a bank still hold."""
    return {name for prompt in prompts for name in _PLACEHOLDER.findall(prompt)}


def filled_in(prompt: str, instance: Mapping[str, Any]) -> str:
    """A prompt of a bank with its placeholders replaced by the `lighting` and `description` of an instance's row."""
    return _PLACEHOLDER.sub(lambda found: str(instance[found[1]]), prompt)
