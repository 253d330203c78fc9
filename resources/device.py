"""Which device the models run on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal


@dataclass(frozen=True)
class Device:
    """`name` is resolved on first use, so that loading the definitions does not import torch."""

    wanted: Literal["auto", "cpu", "cuda"]

    @cached_property
    def name(self) -> str:
        if self.wanted != "auto":
            return self.wanted
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"


def resolve_device(wanted: Literal["auto", "cpu", "cuda"]) -> Device:
    return Device(wanted)
