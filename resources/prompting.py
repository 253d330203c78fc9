"""The text encoder and the agent of a diverse prompt bank, loaded once per process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from instsynth_dagster.settings import GeneratorSettings
from resources.device import Device

if TYPE_CHECKING:
    from instsynth_dagster.synthesis.prompt_agents import Agent
    from instsynth_dagster.synthesis.text_encoder import TextEncoder


class Prompting:
    """Hands out what params section `prompt_bank` names."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._encoders: dict[str, TextEncoder] = {}
        self._agents: dict[tuple[str | None, int], Agent] = {}

    def encoder(self, name: str, settings: GeneratorSettings) -> TextEncoder:
        """The text encoders of the generator `name`."""
        from instsynth_dagster.synthesis.text_encoder import TextEncoder

        if name not in self._encoders:
            self._encoders[name] = TextEncoder(name, settings, self._device.name)
        return self._encoders[name]

    def agent(self, model: str | None, seed: int) -> Agent:
        """What proposes prompts: a causal language model, or without one the grammar."""
        from instsynth_dagster.synthesis.prompt_agents import GrammarAgent, LanguageModelAgent

        if (model, seed) not in self._agents:
            agent = LanguageModelAgent(model, seed, self._device.name) if model else GrammarAgent(seed)
            self._agents[model, seed] = agent
        return self._agents[model, seed]
