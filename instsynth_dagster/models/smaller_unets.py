"""Smaller UNets made by removing blocks, and their distillation from the full one (after BK-SDM)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import diffusers
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from instsynth_dagster.errors import SettingsError
from instsynth_dagster.models.unet_taps import UNetTaps

Removed = Literal["layers", "middle", "innermost"]


def smaller_unet(teacher: Any, remove: Removed) -> Any:
    """A UNet without some blocks of `teacher`, with its weights in the remaining ones.

    `layers`: one layer fewer in each stage that has more than one (BK-SDM base). `middle`: also without the middle
    block (small). `innermost`: also without the attention of the innermost stages, which hold most parameters (a
    stand-in for tiny, which drops the innermost stage: a tap there must stay).

    Raises:
        SettingsError: nothing is left to remove.
    """
    config = dict(teacher.config)
    layers = config["layers_per_block"]
    if remove == "layers" and layers == 1:
        raise SettingsError("remove: layers: the UNet has one layer in each stage; remove the middle instead")
    config["layers_per_block"] = max(1, layers - 1)
    if remove != "layers":
        config["mid_block_type"] = None
    if remove == "innermost":
        config["down_block_types"] = (*config["down_block_types"][:-1], "DownBlock2D")
        config["up_block_types"] = ("UpBlock2D", *config["up_block_types"][1:])
    student = diffusers.UNet2DConditionModel(**config)
    own = student.state_dict()
    known = {
        name: weight
        for name, weight in _renumbered(teacher, config["layers_per_block"]).items()
        if name in own and own[name].shape == weight.shape
    }
    student.load_state_dict(own | known)
    return student


def _renumbered(teacher: Any, layers: int) -> dict[str, Tensor]:
    """The teacher's weights under the student's names; the last layer of an up block, which feeds the next block, is
    renumbered.
    """
    before = teacher.config["layers_per_block"]
    renamed = {}
    for name, weight in teacher.state_dict().items():
        parts = name.split(".")
        if parts[0] == "up_blocks" and parts[2] in ("resnets", "attentions") and layers < before:
            number = int(parts[3])
            if number == before - 1:
                continue
            parts[3] = str(layers if number == before else number)
        renamed[".".join(parts)] = weight
    return renamed


class Distillation(nn.Module):
    """Training of the student's taps to equal the teacher's; only the student's UNet is trained."""

    def __init__(self, student: UNetTaps, teacher: UNetTaps) -> None:
        super().__init__()
        self.student, self.teacher = student, teacher
        for part, learns in ((teacher, False), (student.vae, False), (student.unet, True)):
            part.requires_grad_(learns)

    def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """Loss on images (B, 3, H, W) in -1..1: mean squared error of each tap in units of the teacher's variance."""
        with torch.no_grad():
            wanted = self.teacher(pixel_values)
        return {"loss": torch.stack(_errors(self.student(pixel_values), wanted)).mean()}


def _errors(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> list[Tensor]:
    return [F.mse_loss(mine, other) / other.var() for mine, other in zip(ours, theirs, strict=True)]


@torch.inference_mode()
def feature_cosine(student: UNetTaps, teacher: UNetTaps, pixels: Tensor) -> float:
    """Mean over taps and positions of the cosine between their features, on images (B, 3, H, W) in -1..1."""
    pairs = zip(student(pixels), teacher(pixels), strict=True)
    return float(torch.stack([F.cosine_similarity(mine, other, dim=1).mean() for mine, other in pairs]).mean())
