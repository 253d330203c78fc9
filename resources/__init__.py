"""What assets are given, built from the settings."""

from __future__ import annotations

from typing import Any

from instsynth_dagster.artifacts.store import open_store
from instsynth_dagster.settings import Settings
from resources.dataset import Dataset
from resources.device import resolve_device
from resources.generators import Generators
from resources.judge import Judge
from resources.no_pickles import NoPickles
from resources.prompting import Prompting
from resources.refining import FewShot, Refining


def build_resources(settings: Settings) -> dict[str, Any]:
    """Resources by the name that assets ask for them."""
    device = resolve_device(settings.device)
    return {
        "store": open_store(settings),
        "dataset": Dataset(settings.dataset.root),
        "generators": Generators(settings, device),
        "judge": Judge(settings, device),
        "refining": Refining(settings, device),
        "few_shot": FewShot(settings, device),
        "prompting": Prompting(settings, device),
        "device": device,
        "io_manager": NoPickles(),
    }
