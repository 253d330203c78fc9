"""What generators on a diffusers pipeline share: loading from several sources, digests, cached prompts, seeds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from torch import Tensor, nn

from instsynth_dagster.errors import CheckpointError
from instsynth_dagster.quiet import quiet_diffusers, quiet_transformers
from instsynth_dagster.settings import GeneratorSettings
from instsynth_dagster.synthesis.generators.base import Capabilities

_SCHEDULERS = {
    "ddim": "DDIMScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "unipc": "UniPCMultistepScheduler",
}


class PipelineGenerator:
    """A generator around a diffusers pipeline; loads on construction.

    Raises:
        CheckpointError: neither the model nor one of its mirrors can be loaded, or its UNet is of another kind.
    """

    UNET_INPUTS: tuple[str, ...] = ("inpainting", "text-to-image")
    """Kinds of UNet that the generator can drive, by what their input holds."""

    def __init__(self, name: str, settings: GeneratorSettings, device: str, choose: Callable[[str], Any]) -> None:
        """`choose` gives the pipeline class for a source (folder or hub id)."""
        self._settings, self._device = settings, device
        with quiet_diffusers(), quiet_transformers():
            self._pipeline = _load(name, settings, choose)
            self._check_unet(name)
            if settings.scheduler:
                scheduler = getattr(diffusers, _SCHEDULERS[settings.scheduler])
                self._pipeline.scheduler = scheduler.from_config(self._pipeline.scheduler.config)
        self._pipeline.set_progress_bar_config(disable=True)
        self._pipeline.to(device)
        self._prompts: dict[str, tuple[Tensor, ...]] = {}

    def _check_unet(self, name: str) -> None:
        given = self._pipeline.unet.config.in_channels
        latents = self._pipeline.vae.config.latent_channels
        wanted = {"inpainting": 2 * latents + 1, "text-to-image": latents}
        if given not in [wanted[kind] for kind in self.UNET_INPUTS]:
            expected = " or ".join(f"{wanted[kind]} ({kind})" for kind in self.UNET_INPUTS)
            raise CheckpointError(f"generators.{name}.model: its UNet takes {given} channels, needed are {expected}")

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(mask_shaped=True, native_size=self._settings.size, soft_mask=False)

    @property
    def scheduler(self) -> str:
        return type(self._pipeline.scheduler).__name__

    @cached_property
    def weights_digest(self) -> str:
        """sha256 over names and values of all weights."""
        digest = hashlib.sha256()
        modules = {name: part for name, part in self._pipeline.components.items() if isinstance(part, nn.Module)}
        for name, module in sorted(modules.items()):
            for key, tensor in sorted(module.state_dict().items()):
                digest.update(f"{name}.{key}\0{tensor.dtype}{tuple(tensor.shape)}".encode())
                digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def _encode(self, prompt: str) -> tuple[Tensor, ...]:
        """What the denoiser reads of a prompt, without a batch axis."""
        return (self._pipeline.encode_prompt(prompt, self._device, 1, False)[0][0],)

    def _embed(self, prompts: Sequence[str]) -> tuple[Tensor, ...]:
        """Embeddings of a batch; each different prompt is encoded once in the life of the generator."""
        for prompt in prompts:
            if prompt not in self._prompts:
                self._prompts[prompt] = self._encode(prompt)
        return tuple(torch.stack(parts) for parts in zip(*(self._prompts[prompt] for prompt in prompts), strict=True))

    def _random(self, seeds: Sequence[int]) -> list[torch.Generator]:
        """One generator per image, on the CPU so that a seed gives the same noise on every device."""
        return [torch.Generator("cpu").manual_seed(seed) for seed in seeds]


def to_pixels(images: np.ndarray) -> Tensor:
    """uint8 (N, S, S, 3) -> float32 (N, 3, S, S) in [0, 1], which pipelines expect."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


def to_images(array: np.ndarray) -> np.ndarray:
    """float (N, S, S, 3) in [0, 1] -> uint8."""
    return np.rint(array * 255).astype(np.uint8)


def _load(name: str, settings: GeneratorSettings, choose: Callable[[str], Any]) -> Any:
    """The pipeline from the model or the first mirror that has it whole."""
    problems = []
    for source in (settings.model, *settings.mirrors):
        try:
            return choose(source).from_pretrained(
                source,
                revision=settings.revision if source == settings.model else None,
                variant=settings.variant,
                dtype=getattr(torch, settings.dtype),
                use_safetensors=True,
                safety_checker=None,
                feature_extractor=None,
                image_encoder=None,
                requires_safety_checker=False,
                local_files_only=Path(source).is_dir(),
            )
        except (OSError, ValueError, RuntimeError) as error:
            problems.append(f"{source}: {' '.join(str(error).split())[:160]}")
    raise CheckpointError(f"generators.{name}.model: nothing could be loaded; tried {'; '.join(problems)}")
