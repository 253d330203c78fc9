"""The common base of generators on a diffusers pipeline: loading, digests, prompts encoded once, one batched call."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import diffusers
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from instsynth_dagster.errors import CheckpointError, reason
from instsynth_dagster.models.digests import weights_digest
from instsynth_dagster.models.quiet import quiet_diffusers, quiet_transformers
from instsynth_dagster.models.sources import load_complete_pipeline, pretrained
from instsynth_dagster.settings import GeneratorSettings
from instsynth_dagster.synthesis.generators.base import Capabilities
from instsynth_dagster.synthesis.generators.failures import failure_reason
from instsynth_dagster.synthesis.generators.fit import wrong_size

_log = logging.getLogger(__name__)

_SCHEDULERS = {
    "ddim": "DDIMScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "lcm": "LCMScheduler",
    "unipc": "UniPCMultistepScheduler",
}
_TEXT_ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")


class PipelineGenerator:
    """A generator around a diffusers inpainting pipeline; the weights are loaded on construction.

    Text encoders join the pipeline only while new prompts are encoded; at other times they stay in main memory.

    Raises:
        CheckpointError: neither the model nor one of its mirrors can be loaded, or its parts are of another type.
    """

    LICENCE = ""
    """Licence of the family's published weights."""

    PATCH = 1
    """Cells of the latent that the denoiser takes as one token; the size must be a multiple of it in latents."""

    MASK_CELL = 1
    """Cells of the latent that the pipeline's mask has one value for, along each axis."""

    GUIDANCE = "guidance_scale"
    """Name of the pipeline's argument for guidance."""

    def __init__(self, name: str, settings: GeneratorSettings, device: str, choose: Callable[[str], Any]) -> None:
        """The pipeline on a device; `choose` maps a source (folder or hub id) to the pipeline class."""
        self._settings, self._device = settings, device
        self._beside: dict[str, nn.Module] = {}
        with quiet_diffusers(), quiet_transformers():
            self._pipeline = _load(name, settings, choose, self._further_parts(name))
            self._check(name)
            self._add_lora(name)
            if settings.scheduler:
                scheduler = getattr(diffusers, _SCHEDULERS[settings.scheduler])
                self._pipeline.scheduler = scheduler.from_config(self._pipeline.scheduler.config)
        self._pipeline.set_progress_bar_config(disable=True)
        parts = self._pipeline.components
        self._text_encoders = {part: parts[part] for part in _TEXT_ENCODERS if parts.get(part) is not None}
        self._show_text_encoders(False)
        self._pipeline.to(device)
        if settings.compile:
            self._denoiser.compile_repeated_blocks(fullgraph=True)
        self._prompts: dict[str, tuple[Tensor, ...]] = {}
        self._finite: list[Tensor] = []
        self._pipeline.vae.decoder.register_forward_hook(self._note_finite)

    def _further_parts(self, name: str) -> dict[str, Any]:
        """Models by name that the pipeline takes in addition to those of its own checkpoint."""
        return {}

    def _check(self, name: str) -> None:
        """Check that the parts fit the generator and that the size fits the parts."""
        if line := wrong_size(name, self._settings, self._pipeline.vae_scale_factor * self.PATCH):
            raise CheckpointError(line)

    def _add_lora(self, name: str) -> None:
        """Fuse a LoRA with the weights, so that the digest covers it and steps cost nothing more."""
        lora = self._settings.lora
        if lora is None:
            return
        try:
            repository, where = pretrained(lora)
            self._pipeline.load_lora_weights(repository, use_safetensors=True, **where)
        except Exception as error:
            raise CheckpointError(f"generators.{name}.lora: {lora} cannot be loaded: {reason(error)}") from None
        self._pipeline.fuse_lora()
        self._pipeline.unload_lora_weights()

    @property
    def _denoiser(self) -> Any:
        parts = self._pipeline.components
        return parts.get("unet") or parts["transformer"]

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(mask_shaped=True, native_size=self._settings.size, soft_mask=False, licence=self.LICENCE)

    @property
    def scheduler(self) -> str:
        return type(self._pipeline.scheduler).__name__

    @cached_property
    def weights_digest(self) -> str:
        parts = self._pipeline.components | self._text_encoders | self._beside
        return weights_digest({name: part for name, part in parts.items() if isinstance(part, nn.Module)})

    @torch.inference_mode()
    def prepare(self, prompts: Iterable[str]) -> None:
        """Encode prompts; each distinct prompt is encoded once in the lifetime of the generator."""
        missing = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._prompts]
        if missing:
            with self._with_text_encoders():
                self._prompts |= {prompt: self._encode(prompt) for prompt in missing}

    def forget(self) -> None:
        """Drop all encoded prompts."""
        self._prompts.clear()

    @torch.inference_mode()
    def fill(
        self,
        images: np.ndarray,
        masks: np.ndarray,
        prompts: Sequence[str],
        subjects: Sequence[str],
        seeds: Sequence[int],
    ) -> np.ndarray:
        """Repaint a batch, see `Generator.fill`; a crop that fails in half precision is painted again, alone and in
        float32.
        """
        self.prepare([*prompts, self._settings.negative_prompt or ""])
        painted = self._painted(images, masks, prompts, subjects, seeds)
        if self._settings.dtype == "float32":
            return painted
        again: dict[tuple[int, str], np.ndarray] = {}
        for index, key in enumerate(zip(seeds, prompts, strict=True)):  # a padded batch repeats its last crop
            if not failure_reason(painted[index], images[index], masks[index]):
                continue
            if key not in again:
                one = slice(index, index + 1)
                again[key] = self._painted_in_float32(
                    images[one], masks[one], prompts[one], subjects[one], seeds[one], painted[index]
                )
            painted[index] = again[key]
        return painted

    def _painted_in_float32(self, *batch: Any) -> np.ndarray:
        """A batch of one crop, painted in float32; the last argument is returned where the memory does not suffice."""
        *arguments, before = batch
        _log.warning("generators: a crop failed in %s and is painted again in float32", self._settings.dtype)
        try:
            with self._float32():
                return self._painted(*arguments)[0]
        except torch.OutOfMemoryError:
            return before

    @contextmanager
    def _float32(self) -> Iterator[None]:
        """Weights in single precision; afterwards they are restored bit for bit."""
        parts = [part for part in self._pipeline.components.values() if isinstance(part, nn.Module)]
        weights = [w for part in parts for w in (*part.parameters(), *part.buffers()) if w.is_floating_point()]
        kept = [weight.data for weight in weights]
        try:
            for weight in weights:
                weight.data = weight.data.float()
            yield
        finally:
            for weight, data in zip(weights, kept, strict=True):
                weight.data = data

    def _painted(self, *batch: Any) -> np.ndarray:
        """uint8 (N, S, S, 3) of a batch as for `fill`; an image with non-finite values is black."""
        self._finite.clear()
        pictures = self._paint(*batch)
        for finite in self._finite:
            pictures[~finite.cpu().numpy()] = np.nan
        return to_images(pictures)

    def _note_finite(self, _: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Record which images of a decoded batch are finite, before pipelines clamp them."""
        self._finite += [values.isfinite().flatten(1).all(1) for values in (inputs[0], output)]

    def _paint(
        self,
        images: np.ndarray,
        masks: np.ndarray,
        prompts: Sequence[str],
        subjects: Sequence[str],
        seeds: Sequence[int],
    ) -> np.ndarray:
        """float (N, S, S, 3) in 0..1 of a batch as for `fill`."""
        settings, side = self._settings, images.shape[1]
        arguments = {
            "image": to_pixels(images),
            "mask_image": self._whole_cells(masks),
            "height": side,
            "width": side,
            "num_inference_steps": settings.steps,
            "strength": settings.strength,
            "generator": self._random(seeds),
            "output_type": "np",
            self.GUIDANCE: settings.guidance,
        }
        result = self._pipeline(**arguments | self._conditioning(prompts) | self._extras(images, masks))
        return np.asarray(result.images)

    def _cells(self, masks: np.ndarray) -> Tensor:
        """Latent mask float (N, 1, h, w): 1 where any pixel of a cell is to be painted, so that thin masks survive;
        pipelines sample single pixels instead.
        """
        return F.max_pool2d(torch.from_numpy(masks)[:, None].float(), self._pipeline.vae_scale_factor * self.MASK_CELL)

    def _whole_cells(self, masks: np.ndarray) -> Tensor:
        """Pixel mask float (N, 1, S, S): all pixels of the latent cells that are to be painted."""
        return F.interpolate(self._cells(masks), masks.shape[1:])

    def _conditioning(self, prompts: Sequence[str]) -> dict[str, Any]:
        """The arguments of the pipeline that carry prompts."""
        raise NotImplementedError

    def _extras(self, images: np.ndarray, masks: np.ndarray) -> dict[str, Any]:
        """Arguments of one model family only; they override the common ones."""
        return {}

    def _encode(self, prompt: str) -> tuple[Tensor, ...]:
        """The tensors that the denoiser reads of a prompt, without a batch axis."""
        raise NotImplementedError

    def _embed(self, prompts: Sequence[str]) -> tuple[Tensor, ...]:
        """Embeddings of a batch of prompts of equal length."""
        return tuple(torch.stack(parts) for parts in zip(*map(self._encoded, prompts), strict=True))

    def _encoded(self, prompt: str) -> tuple[Tensor, ...]:
        """The cached encoding of a prompt, in the denoiser's current precision."""
        if prompt not in self._prompts:
            self.prepare([prompt])
        kind = next(weight.dtype for weight in self._denoiser.parameters() if weight.is_floating_point())
        return tuple(part.to(kind) if part.is_floating_point() else part for part in self._prompts[prompt])

    def _negatives(self, prompts: Sequence[str]) -> list[str]:
        """The negative prompt for each prompt; an empty list without guidance."""
        return [self._settings.negative_prompt or ""] * len(prompts) if self._settings.guidance > 1 else []

    @contextmanager
    def _with_text_encoders(self) -> Iterator[None]:
        for module in self._text_encoders.values():
            module.to(self._device)
        self._show_text_encoders(True)
        try:
            yield
        finally:
            self._show_text_encoders(False)
            for module in self._text_encoders.values():
                module.to("cpu")

    def _show_text_encoders(self, shown: bool) -> None:
        for part, module in self._text_encoders.items():
            setattr(self._pipeline, part, module if shown else None)

    def _random(self, seeds: Sequence[int]) -> list[torch.Generator]:
        """One random generator for each image, on the CPU so that a seed gives the same noise on every device."""
        return [torch.Generator("cpu").manual_seed(seed) for seed in seeds]


def to_pixels(images: np.ndarray) -> Tensor:
    """uint8 (N, S, S, 3) -> float32 (N, 3, S, S) in [0, 1], which pipelines expect."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


def to_images(array: np.ndarray) -> np.ndarray:
    """float (N, S, S, 3) in [0, 1] -> uint8; an image with a non-finite value becomes black, which
    `failures.failure_reason` reports.
    """
    finite = np.isfinite(array).reshape(len(array), -1).all(axis=1)
    return np.rint(np.where(finite[:, None, None, None], array, 0).clip(0, 1) * 255).astype(np.uint8)


def _load(name: str, settings: GeneratorSettings, choose: Callable[[str], Any], further: dict[str, Any]) -> Any:
    """The pipeline, with further parts, from the model or from the first mirror that holds the same weights."""
    problems = []
    for source in (settings.model, *settings.mirrors):
        try:
            return load_complete_pipeline(
                choose(source),
                source,
                dtype=getattr(torch, settings.dtype),
                variant=settings.variant,
                weights=settings.weights,
                further=further,
            )
        except Exception as error:  # damaged files make the library raise nearly anything
            problems.append(f"{source}: {reason(error)}")
    raise CheckpointError(f"generators.{name}.model: nothing could be loaded; tried {'; '.join(problems)}")
