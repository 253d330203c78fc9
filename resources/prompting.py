"""The text encoder and the agent of a diverse prompt bank, loaded once per process."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from instsynth_dagster.settings import PromptBankSettings, Settings
from resources.device import Device

if TYPE_CHECKING:
    from instsynth_dagster.synthesis.prompt_agents import Agent
    from instsynth_dagster.synthesis.text_encoder import TextEncoder


class Prompting:
    """Hands out what params section `prompt_bank` names."""

    def __init__(self, settings: Settings, device: Device) -> None:
        self._settings, self._device = settings, device

    @cached_property
    def encoder(self) -> TextEncoder:
        from instsynth_dagster.synthesis.text_encoder import TextEncoder

        name = self._bank.encoder
        return TextEncoder(name, self._settings.generators[name], self._device.name)

    @cached_property
    def agent(self) -> Agent:
        from instsynth_dagster.synthesis.prompt_agents import GrammarAgent, LanguageModelAgent

        seed = self._settings.seed
        if self._bank.agent is None:
            return GrammarAgent(seed)
        return LanguageModelAgent(self._bank.agent, seed, self._device.name)

    @property
    def _bank(self) -> PromptBankSettings:
        assert self._settings.prompt_bank is not None
        return self._settings.prompt_bank
