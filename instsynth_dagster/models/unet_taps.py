"""Features of a diffusion model: activations of its UNet's up blocks at one noise level.

Taps lie before a block's upsampler (VPD's choice), so that a stage keeps the resolution at which it computes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
import transformers
from torch import Tensor, nn

from instsynth_dagster.errors import CheckpointError, SettingsError, reason
from instsynth_dagster.models.quiet import quiet_diffusers, quiet_transformers
from instsynth_dagster.models.sources import load_complete_model, load_complete_tokenizer, pipeline_index, pretrained
from instsynth_dagster.segmenters.shared.backbones import UNLOADABLE

_PARTS = ("vae", "unet", "text_encoder", "tokenizer", "scheduler")
_NOISE_SEED = 0
_NOISE_SIDE = 64


@dataclass(frozen=True)
class Parts:
    """Parts of a Stable Diffusion folder: autoencoder, UNet, noise schedule, and an encoded caption float (1, T, D)."""

    vae: nn.Module
    unet: diffusers.UNet2DConditionModel
    schedule: Any
    caption: Tensor


def load_parts(source: str, caption: str, *, tiny_vae: str | None = None, key: str = "model") -> Parts:
    """The parts that an extractor needs, from a folder or hub id; `tiny_vae` names an `AutoencoderTiny` to encode with
    instead.

    Raises:
        CheckpointError: one line beginning with `key`.
    """
    name, where = pretrained(source, parts=_PARTS)
    small, small_where = pretrained(tiny_vae) if tiny_vae else ("", {})
    options: dict[str, Any] = {"torch_dtype": torch.float32}
    try:
        index = pipeline_index(source)
        with quiet_diffusers(), quiet_transformers():
            if tiny_vae:
                vae: Any = load_complete_model(diffusers.AutoencoderTiny, small, **small_where, **options)
            else:
                vae = load_complete_model(
                    getattr(diffusers, index["vae"][1]), name, subfolder="vae", **where, **options
                )
            unet: Any = load_complete_model(diffusers.UNet2DConditionModel, name, subfolder="unet", **where, **options)
            text: Any = load_complete_model(
                transformers.CLIPTextModel, name, subfolder="text_encoder", dtype=torch.float32, **where
            )
            tokenizer = load_complete_tokenizer(transformers.CLIPTokenizer, name, subfolder="tokenizer", **where)
            schedule = diffusers.DDPMScheduler.from_pretrained(name, subfolder="scheduler", **where)
    except CheckpointError:
        raise
    except UNLOADABLE as error:
        raise CheckpointError(f"{key}: {name}: {reason(error)}") from None
    return Parts(vae, unet, schedule, encoded(text.eval(), tokenizer, caption))


@torch.no_grad()
def encoded(text: Any, tokenizer: Any, caption: str) -> Tensor:
    """A caption as the UNet reads it: float (1, T, D)."""
    tokens = tokenizer(caption, padding="max_length", truncation=True, return_tensors="pt")
    return text(tokens.input_ids).last_hidden_state


class UNetTaps(nn.Module):
    """Features of images that are encoded, noised to `timestep` and denoised once.

    The noise is the same for every image: one fixed tile, repeated over the latents. An inpainting UNet gets a mask
    that covers everything: beside an intact image it would only copy its input.

    Args:
        stages: up blocks to tap, 0 the coarsest.
        truncate: whether to drop all layers after the last tap, and the autoencoder's decoder; no tap changes.

    Raises:
        SettingsError: a stage that the UNet does not have.
    """

    def __init__(self, parts: Parts, stages: Sequence[int], timestep: int, *, truncate: bool = True) -> None:
        super().__init__()
        blocks = len(parts.unet.up_blocks)
        if any(stage >= blocks for stage in stages):
            raise SettingsError(f"stages: the UNet has up blocks 0 to {blocks - 1}, not {max(stages)}")
        self.vae: Any = parts.vae
        self.unet: Any = parts.unet
        self.stages, self.timestep = tuple(stages), timestep
        alpha = parts.schedule.alphas_cumprod[timestep].item()
        self._signal, self._noise = alpha**0.5, (1 - alpha) ** 0.5
        tile = torch.randn(
            1, self._latent_channels, _NOISE_SIDE, _NOISE_SIDE, generator=torch.Generator().manual_seed(_NOISE_SEED)
        )
        self.tile: Tensor
        self.caption: Tensor
        self.register_buffer("tile", tile)
        self.register_buffer("caption", parts.caption)
        self.latent_stride = _latent_stride(parts.vae)
        self.strides = tuple(self.latent_stride * 2 ** (blocks - 1 - stage) for stage in self.stages)
        self.channels = tuple(int(self.unet.up_blocks[stage].resnets[-1].out_channels) for stage in self.stages)
        if truncate:
            _truncate(self.vae, self.unet, max(stages))
        self._taken: dict[int, Tensor] = {}
        for stage in self.stages:
            _last_layer(self.unet.up_blocks[stage]).register_forward_hook(self._keep(stage))

    @property
    def _latent_channels(self) -> int:
        return int(self.unet.config.out_channels)

    @property
    def coarsest(self) -> int:
        """Coarsest stride in pixels; image sides must be multiples of it."""
        return int(self.latent_stride * 2 ** (len(self.unet.down_blocks) - 1))

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Maps float (B, C_s, H / stride_s, W / stride_s), in the order of `stages`, of (B, 3, H, W) in -1..1."""
        latents = self._encode(pixels)
        height, width = latents.shape[-2:]
        tiles = (1, 1, -(-height // _NOISE_SIDE), -(-width // _NOISE_SIDE))
        given = self._signal * latents + self._noise * self.tile.repeat(tiles)[..., :height, :width]
        if self.unet.config.in_channels == 2 * self._latent_channels + 1:
            blank = self._encode(torch.zeros_like(pixels[:1])).expand_as(latents)
            given = torch.cat([given, torch.ones_like(latents[:, :1]), blank], dim=1)
        step = torch.full((len(pixels),), self.timestep, device=pixels.device)
        self.unet(given, step, encoder_hidden_states=self.caption.expand(len(pixels), -1, -1))
        maps = [self._taken[stage] for stage in self.stages]
        self._taken.clear()
        return maps

    def _encode(self, pixels: Tensor) -> Tensor:
        """The deterministic mean, times the factor that brings latents to unit variance."""
        from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_img2img import retrieve_latents

        return retrieve_latents(self.vae.encode(pixels), sample_mode="argmax") * self.vae.config.scaling_factor

    def _keep(self, stage: int) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            self._taken[stage] = output[0] if isinstance(output, tuple) else output

        return hook


def _last_layer(block: Any) -> nn.Module:
    attentions = getattr(block, "attentions", None)
    return attentions[-1] if attentions else block.resnets[-1]


def _latent_stride(vae: Any) -> int:
    """Pixels in a latent cell's side: autoencoders halve the image once between any two of their stages."""
    stages = getattr(vae.config, "encoder_block_out_channels", None) or vae.config.block_out_channels
    return int(2 ** (len(stages) - 1))


def _truncate(vae: Any, unet: Any, last: int) -> None:
    """Remove the layers on which no tap depends."""
    from diffusers.models.attention import BasicTransformerBlock

    unet.up_blocks = nn.ModuleList(list(unet.up_blocks)[: last + 1])
    unet.up_blocks[last].upsamplers = None
    unet.conv_norm_out, unet.conv_out = None, nn.Identity()
    unet.position_net = None  # grounding (GLIGEN): without boxes neither it nor the layers that it feeds are used
    for module in unet.modules():
        if isinstance(module, BasicTransformerBlock):
            module.fuser = None
    vae.decoder = None
