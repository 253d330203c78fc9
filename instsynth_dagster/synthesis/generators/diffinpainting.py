"""`diffinpainting`: a 9-channel inpainting UNet through diffusers' own pipeline (InstSynth's DiffInpainting)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers import StableDiffusionInpaintPipeline
from diffusers.utils import logging as diffusers_logging

from instsynth_dagster.errors import CheckpointError
from instsynth_dagster.settings import GeneratorSettings
from instsynth_dagster.synthesis.generators.base import Capabilities

_SCHEDULERS = {
    "ddim": "DDIMScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "unipc": "UniPCMultistepScheduler",
}


class DiffInpainting:
    """Fills masks with a Stable Diffusion inpainting checkpoint; loads on construction.

    Raises:
        CheckpointError: neither the model nor one of its mirrors can be loaded, or it is no inpainting model.
    """

    def __init__(self, name: str, settings: GeneratorSettings, device: str) -> None:
        self._settings, self._device = settings, device
        with _quiet_diffusers():
            self._pipeline = _load(name, settings)
        if settings.scheduler:
            kind = getattr(diffusers, _SCHEDULERS[settings.scheduler])
            self._pipeline.scheduler = kind.from_config(self._pipeline.scheduler.config)
        self._pipeline.set_progress_bar_config(disable=True)
        self._pipeline.to(device)
        self._embeddings: dict[str, torch.Tensor] = {}

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(mask_shaped=True, native_size=self._settings.size, soft_mask=False)

    @property
    def scheduler(self) -> str:
        return type(self._pipeline.scheduler).__name__

    @cached_property
    def weights_digest(self) -> str:
        digest = hashlib.sha256()
        for name in ("unet", "vae", "text_encoder"):
            for key, tensor in sorted(getattr(self._pipeline, name).state_dict().items()):
                digest.update(key.encode())
                digest.update(tensor.float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    @torch.inference_mode()
    def fill(self, images: np.ndarray, masks: np.ndarray, prompts: Sequence[str], seeds: Sequence[int]) -> np.ndarray:
        """See `Generator.fill`."""
        settings = self._settings
        negative = self._embed(settings.negative_prompt or "")
        result = self._pipeline(
            prompt_embeds=torch.stack([self._embed(prompt) for prompt in prompts]),
            negative_prompt_embeds=negative.expand(len(prompts), *negative.shape) if settings.guidance > 1 else None,
            image=torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1,
            mask_image=torch.from_numpy(masks)[:, None].float(),
            height=settings.size,
            width=settings.size,
            num_inference_steps=settings.steps,
            guidance_scale=settings.guidance,
            strength=settings.strength,
            generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
            output_type="np",
        )
        return np.rint(result.images * 255).astype(np.uint8)

    def _embed(self, prompt: str) -> torch.Tensor:
        """(L, D) text embedding, computed once per prompt."""
        if prompt not in self._embeddings:
            self._embeddings[prompt] = self._pipeline.encode_prompt(prompt, self._device, 1, False)[0][0]
        return self._embeddings[prompt]


@contextmanager
def _quiet_diffusers() -> Iterator[None]:
    """Errors only and no progress bars: "loading components" says nothing beside a bar of crops."""
    verbosity = diffusers_logging.get_verbosity()
    diffusers_logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
    try:
        yield
    finally:
        diffusers_logging.set_verbosity(verbosity)
        diffusers_logging.enable_progress_bar()


def _load(name: str, settings: GeneratorSettings) -> Any:
    problems = []
    for source in (settings.model, *settings.mirrors):
        try:
            pipeline = StableDiffusionInpaintPipeline.from_pretrained(
                source,
                revision=settings.revision if source == settings.model else None,
                variant=settings.variant,
                torch_dtype=getattr(torch, settings.dtype),
                use_safetensors=True,
                safety_checker=None,
                feature_extractor=None,
                image_encoder=None,
                requires_safety_checker=False,
                local_files_only=Path(source).is_dir(),
            )
        except (OSError, ValueError, RuntimeError) as error:
            problems.append(f"{source}: {' '.join(str(error).split())[:160]}")
            continue
        latents = pipeline.vae.config.latent_channels
        if pipeline.unet.config.in_channels != 2 * latents + 1:
            raise CheckpointError(
                f"generators.{name}.model: the UNet of {source} takes {pipeline.unet.config.in_channels} channels,"
                f" an inpainting UNet {2 * latents + 1}"
            )
        return pipeline
    raise CheckpointError(f"generators.{name}.model: nothing could be loaded; tried {'; '.join(problems)}")
