"""What a frozen diffusion model sees in an image: activations of its UNet's up blocks at one noise level."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from diffusers import AutoModel, DDPMScheduler, UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_img2img import retrieve_latents
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPTextModel, CLIPTokenizer

from instsynth_dagster.errors import CheckpointError, SettingsError
from instsynth_dagster.segmenters.backbones import UNLOADABLE, first_line
from instsynth_dagster.settings import FeatureSettings
from instsynth_dagster.sources import pretrained

_SEED = 0


class DiffusionFeatures:
    """An `Extractor` around a Stable Diffusion folder or hub id, with a 4-channel UNet or a 9-channel inpainting one.

    The image is encoded, noised to `timestep` (the same noise for every image of a size), and denoised once with the
    caption; an inpainting UNet is told that nothing is missing. `stages` are up blocks, 0 the coarsest.

    Raises:
        CheckpointError: the folder or id cannot be loaded.
        SettingsError: a stage that the UNet does not have.
    """

    def __init__(self, settings: FeatureSettings, device: str) -> None:
        name, where = pretrained(settings.model)
        try:
            options: dict[str, Any] = {**where, "torch_dtype": torch.float32, "use_safetensors": True}
            self._vae: Any = AutoModel.from_pretrained(name, subfolder="vae", **options)
            self._unet: Any = UNet2DConditionModel.from_pretrained(name, subfolder="unet", **options)
            text: Any = CLIPTextModel.from_pretrained(
                name, subfolder="text_encoder", use_safetensors=True, dtype=torch.float32, **where
            )
            tokenizer = CLIPTokenizer.from_pretrained(name, subfolder="tokenizer", **where)
            self._schedule: Any = DDPMScheduler.from_pretrained(name, subfolder="scheduler", **where)
        except UNLOADABLE as error:
            raise CheckpointError(f"refinement.features.model: {name}: {first_line(error)}") from None
        blocks = self._unet.up_blocks
        if any(stage >= len(blocks) for stage in settings.stages):
            raise SettingsError(f"refinement.features.stages: {name} has up blocks 0 to {len(blocks) - 1}")
        for model in (self._vae, self._unet):
            model.eval().to(device)
        self._settings, self._device = settings, device
        self._caption = _encoded(text.eval(), tokenizer, settings.caption).to(device)
        self._taken: dict[int, Tensor] = {}
        for stage in settings.stages:
            blocks[stage].register_forward_hook(self._keep(stage))
        factor = 2 ** (len(self._vae.config.block_out_channels) - 1)
        self._stride = factor * 2 ** (len(blocks) - 1)

    @torch.inference_mode()
    def __call__(self, image: np.ndarray) -> np.ndarray:
        """See `Extractor`."""
        pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 127.5 - 1
        size = [max(1, round(side * self._settings.scale / self._stride)) * self._stride for side in image.shape[:2]]
        pixels = F.interpolate(pixels, size=size, mode="bilinear", antialias=True).to(self._device)
        latents = retrieve_latents(self._vae.encode(pixels), sample_mode="argmax") * self._vae.config.scaling_factor
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(_SEED)).to(self._device)
        step = torch.tensor([self._settings.timestep], device=self._device)
        given = self._schedule.add_noise(latents, noise, step)
        if self._unet.config.in_channels == 9:
            given = torch.cat([given, torch.zeros_like(latents[:, :1]), latents], dim=1)
        self._unet(given, step, encoder_hidden_states=self._caption)
        maps = [self._taken[stage] for stage in self._settings.stages]
        finest = max((m.shape[-2:] for m in maps), key=lambda shape: shape[0] * shape[1])
        joined = [F.interpolate(F.normalize(m.float(), dim=1), size=finest, mode="bilinear") for m in maps]
        return torch.cat(joined, dim=1)[0].permute(1, 2, 0).cpu().numpy()

    def _keep(self, stage: int) -> Any:
        def hook(_module: Any, _inputs: Any, output: Tensor) -> None:
            self._taken[stage] = output

        return hook


@torch.inference_mode()
def _encoded(text: Any, tokenizer: Any, caption: str) -> Tensor:
    tokens = tokenizer(caption, padding="max_length", truncation=True, return_tensors="pt")
    return text(tokens.input_ids).last_hidden_state
