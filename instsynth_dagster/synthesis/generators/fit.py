"""Whether a checkpoint fits the generator that runs it, decided from its configurations alone."""

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
"""Types of UNet, by their input, that each kind of generator can run."""


@dataclass(frozen=True)
class Parts:
    """Configurations of a pipeline's denoiser and autoencoder, and of the ControlNet beside it; empty where none can be
    read.
    """

    denoiser: Mapping[str, Any]
    autoencoder: Mapping[str, Any]
    controlnet: Mapping[str, Any] = field(default_factory=dict)


def mismatches(name: str, settings: GeneratorSettings, parts: Parts) -> Iterator[str]:
    """Error lines of all mismatches that would end a run."""
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
    """The reason why a UNet of `given` input channels does not fit; "" where it fits."""
    wanted = {INPAINTING: 2 * latents + 1, TEXT_TO_IMAGE: latents}
    if given in [wanted[kind] for kind in kinds]:
        return ""
    expected = " or ".join(f"{wanted[kind]} ({kind})" for kind in kinds)
    return f"generators.{name}.model: its UNet takes {given} channels, needed are {expected}"


def wrong_controlnet(name: str, unet: Mapping[str, Any], controlnet: Mapping[str, Any]) -> str:
    """The reason, from their configurations, why a ControlNet does not fit a UNet; "" where it fits."""
    for key in ("cross_attention_dim", "block_out_channels", "layers_per_block"):
        wanted, given = unet.get(key), controlnet.get(key)
        if None not in (wanted, given) and wanted != given:
            return f"generators.{name}.controlnet: made for another model: its {key} is {given}, needed is {wanted}"
    return ""


def no_grounding(name: str) -> str:
    """Error line for a UNet without grounding layers."""
    return f"generators.{name}.model: its UNet has no grounding; name a GLIGEN checkpoint"


def wrong_size(name: str, settings: GeneratorSettings, multiple: int) -> str:
    """The reason why a size is no multiple of `multiple` pixels, the side of a latent cell; "" where it is."""
    for size in (settings.size, *settings.sizes):
        if size % multiple:
            nearest = max(multiple, round(size / multiple) * multiple)
            return (
                f"generators.{name}.size: this model needs multiples of {multiple} pixels, got {size}; "
                f"the nearest is {nearest}"
            )
    return ""
