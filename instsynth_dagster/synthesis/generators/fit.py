"""Whether a checkpoint fits the generator that is to drive it, told from its configurations alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from instsynth_dagster.settings import GeneratorSettings

INPAINTING, TEXT_TO_IMAGE = "inpainting", "text-to-image"

UNET_INPUTS: Mapping[str, tuple[str, ...]] = {
    "blendeddiff": (TEXT_TO_IMAGE,),
    "controlnet_inpaint": (INPAINTING, TEXT_TO_IMAGE),
    "diffinpainting": (INPAINTING,),
    "gligen": (INPAINTING, TEXT_TO_IMAGE),
    "sdxl_inpaint": (INPAINTING,),
}
"""Kinds of UNet that a kind of generator can drive, by what their input holds."""


@dataclass(frozen=True)
class Parts:
    """Configurations of a pipeline's denoiser and autoencoder, and of the ControlNet beside it; empty where there is
    none to be read."""

    denoiser: Mapping[str, Any]
    autoencoder: Mapping[str, Any]
    controlnet: Mapping[str, Any] = field(default_factory=dict)


def misfits(name: str, settings: GeneratorSettings, parts: Parts) -> Iterator[str]:
    """Lines that a run would end with."""
    given, latents = parts.denoiser.get("in_channels"), parts.autoencoder.get("latent_channels")
    kinds = UNET_INPUTS.get(settings.kind)
    if kinds and given and latents:
        line = wrong_inputs(name, kinds, given, latents)
        if line:
            yield line
    if (
        settings.kind == "gligen"
        and parts.denoiser
        and not parts.denoiser.get("attention_type", "").startswith("gated")
    ):
        yield no_grounding(name)
    if line := wrong_controlnet(name, parts.denoiser, parts.controlnet):
        yield line
    stages = parts.autoencoder.get("encoder_block_out_channels") or parts.autoencoder.get("block_out_channels")
    if isinstance(stages, list):
        line = wrong_size(name, settings, 2 ** (len(stages) - 1))
        if line:
            yield line


def wrong_inputs(name: str, kinds: tuple[str, ...], given: int, latents: int) -> str:
    """Why a UNet of `given` input channels cannot be driven; "" where it can."""
    wanted = {INPAINTING: 2 * latents + 1, TEXT_TO_IMAGE: latents}
    if given in [wanted[kind] for kind in kinds]:
        return ""
    expected = " or ".join(f"{wanted[kind]} ({kind})" for kind in kinds)
    return f"generators.{name}.model: its UNet takes {given} channels, needed are {expected}"


def wrong_controlnet(name: str, unet: Mapping[str, Any], controlnet: Mapping[str, Any]) -> str:
    """Why a ControlNet cannot guide a UNet, told from their configurations; "" where it can."""
    for key in ("cross_attention_dim", "block_out_channels", "layers_per_block"):
        wanted, given = unet.get(key), controlnet.get(key)
        if None not in (wanted, given) and wanted != given:
            return f"generators.{name}.controlnet: made for another model: its {key} is {given}, needed is {wanted}"
    return ""


def no_grounding(name: str) -> str:
    return f"generators.{name}.model: its UNet has no grounding; name a GLIGEN checkpoint"


def wrong_size(name: str, settings: GeneratorSettings, multiple: int) -> str:
    """Why a size cannot be made of whole cells of `multiple` pixels; "" where it can."""
    for size in (settings.size, *settings.sizes):
        if size % multiple:
            nearest = max(multiple, round(size / multiple) * multiple)
            return (
                f"generators.{name}.size: this model needs multiples of {multiple} pixels, got {size}; "
                f"the nearest is {nearest}"
            )
    return ""
