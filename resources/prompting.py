"""The models that write prompts, loaded once per process: text encoder and agent of a diverse bank, and captioner."""

from __future__ import annotations

from typing import TYPE_CHECKING

from instsynth_dagster.settings import CaptionSettings, GeneratorSettings
from resources.device import Device

if TYPE_CHECKING:
    from instsynth_dagster.models.captioner import Captioner
    from instsynth_dagster.synthesis.prompt_agents import Agent
    from instsynth_dagster.synthesis.text_encoder import TextEncoder


class Prompting:
    """Provides the models of params sections `prompt_bank` and `captions`."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._encoders: dict[str, TextEncoder] = {}
        self._agents: dict[tuple[str | None, int], Agent] = {}
        self._captioner: Captioner | None = None

    def captioner(self, settings: CaptionSettings) -> Captioner:
        """The model that writes captions."""
        from instsynth_dagster.models.captioner import Captioner

        self._captioner = self._captioner or Captioner(settings.model, settings.max_tokens, self._device.name)
        return self._captioner

    def encoder(self, name: str, settings: GeneratorSettings) -> TextEncoder:
        """The text encoders of the generator `name`."""
        from instsynth_dagster.synthesis.text_encoder import TextEncoder

        if name not in self._encoders:
            self._encoders[name] = TextEncoder(name, settings, self._device.name)
        return self._encoders[name]

    def agent(self, model: str | None, seed: int) -> Agent:
        """The agent that proposes prompts: a causal language model, or without one the grammar."""
        from instsynth_dagster.synthesis.prompt_agents import GrammarAgent, LanguageModelAgent

        if (model, seed) not in self._agents:
            agent = LanguageModelAgent(model, seed, self._device.name) if model else GrammarAgent(seed)
            self._agents[model, seed] = agent
        return self._agents[model, seed]
