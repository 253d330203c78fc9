"""The resources of assets: readers of the store and the data set, and models that stay loaded."""

from __future__ import annotations

from typing import Any

from instsynth_dagster.artifacts.store import open_store
from instsynth_dagster.settings import Settings
from resources.dataset import open_dataset
from resources.device import Device
from resources.generators import Generators
from resources.judge import Judge
from resources.prompting import Prompting
from resources.refining import Refining


def build_resources(settings: Settings) -> dict[str, Any]:
    """Resources by name."""
    from resources.no_pickles import (
        NoPickles,
    )  # imported here because the plan, which needs no resource, must not import Dagster

    device = Device(settings.device, settings.workers.threads)
    return {
        "store": open_store(settings),
        "dataset": open_dataset(settings),
        "generators": Generators(device),
        "judge": Judge(settings.artifacts.local, device),
        "refining": Refining(device),
        "prompting": Prompting(device),
        "device": device,
        "io_manager": NoPickles(),
    }
