"""Agents that propose prompts for a class (HDIG in Syn4Seg): a compositional grammar, or a local language model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from instsynth_dagster.errors import CheckpointError, reason
from instsynth_dagster.models.sources import load_complete_model, load_complete_tokenizer, pretrained
from instsynth_dagster.seeds import content_seed
from instsynth_dagster.synthesis.vocabulary import circumstances, colors, subjects


class Agent(Protocol):
    """Something that proposes prompts."""

    def propose(self, class_name: str, attempt: int, accepted: Sequence[str]) -> str:
        """The prompt of an attempt, a deterministic function of the arguments."""
        ...


class GrammarAgent:
    """Random combinations of colour, make or type, viewpoint, weather, time of day, distance, occlusion and street
    context.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def propose(self, class_name: str, attempt: int, accepted: Sequence[str] = ()) -> str:
        """The prompt of an attempt, see `Agent`; `accepted` has no influence."""
        rng = np.random.default_rng(content_seed("prompt agent", self._seed, class_name, attempt))

        def pick(options: Sequence[str]) -> str:
            return options[int(rng.integers(len(options)))]

        subject = pick(subjects(class_name)).format(color=pick(colors()))
        parts = [subject, *(pick(options) for options in circumstances())]
        return "a photo of " + ", ".join(part for part in parts if part)


class LanguageModelAgent:
    """A causal language model of transformers, sampled with a seed; its input holds the prompts accepted last.

    Raises:
        CheckpointError: it cannot be loaded.
    """

    def __init__(self, model: str, seed: int, device: str = "cpu") -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        try:
            name, where = pretrained(model)
            self._tokenizer: Any = load_complete_tokenizer(AutoTokenizer, name, trust_remote_code=False, **where)
            self._model: Any = load_complete_model(AutoModelForCausalLM, name, trust_remote_code=False, **where)
        except Exception as error:  # damaged files make the library raise nearly anything
            raise CheckpointError(f"prompt_bank.agent: {model}: {reason(error)}") from None
        self._model.eval().to(device)
        self._seed = seed

    def propose(self, class_name: str, attempt: int, accepted: Sequence[str]) -> str:
        """The prompt of an attempt, see `Agent`."""
        import torch

        shown = "\n".join(f"- {prompt}" for prompt in accepted[-8:])
        request = (
            f"Captions of street photographs. Each shows one {class_name} and names it, its colour, make, viewpoint, "
            f"weather and place, and differs from all before.\n{shown}\n- a photo of a"
        )
        tokens = self._tokenizer(request, return_tensors="pt").to(self._model.device)
        with torch.random.fork_rng(devices=[]), torch.inference_mode():
            torch.manual_seed(content_seed("prompt agent", self._seed, class_name, attempt))
            output = self._model.generate(
                **tokens, max_new_tokens=32, do_sample=True, pad_token_id=self._tokenizer.eos_token_id
            )
        continuation = self._tokenizer.decode(output[0, tokens["input_ids"].shape[1] :], skip_special_tokens=True)
        return " ".join(f"a photo of a{continuation}".split("\n")[0].split())
