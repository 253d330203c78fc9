"""The paper's generators with random weights at their published sizes: speed needs no training, and no download."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from hub_models import Build, gligen_inpainting, sd2_inpainting, sdxl

from instsynth_dagster.settings import GeneratorSettings

PAPER: dict[str, tuple[Build, dict[str, Any]]] = {
    "diffinpainting": (sd2_inpainting, {"size": 512, "steps": 50, "guidance": 7.5, "batch_size": 16}),
    "gligen": (gligen_inpainting, {"size": 512, "steps": 50, "guidance": 7.5, "batch_size": 16}),
    "blendeddiff": (
        sdxl,
        {"size": 1024, "steps": 50, "strength": 0.76, "guidance": 5.0, "batch_size": 8, "variant": "fp16"},
    ),
}
"""By kind: what saves the architecture, and the paper's setting."""
SMALL: dict[str, Any] = {"size": 64, "steps": 4, "batch_size": 2}


def real_size(kind: str, folder: Path, dtype: str, small: bool = False) -> GeneratorSettings:
    """Save a pipeline of the paper's architecture for `kind`, or a narrow one, and give the paper's setting for it."""
    build, setting = PAPER[kind]
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        build(folder / kind, small)
    finally:
        torch.set_default_dtype(torch.float32)
    given = {"kind": kind, "model": str(folder / kind), "dtype": dtype}
    return GeneratorSettings.model_validate(setting | (SMALL if small else {}) | given)


def few_steps(settings: GeneratorSettings) -> GeneratorSettings:
    """The same with four LCM steps and no guidance, as an LCM LoRA fused with the weights would run."""
    return settings.model_copy(update={"scheduler": "lcm", "steps": 4, "strength": 1.0, "guidance": 1.0})
