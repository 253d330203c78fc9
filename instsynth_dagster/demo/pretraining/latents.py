"""Training examples of the latent diffusion models: encoded crops with their holes, boxes and captions."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
import transformers
from scipy import ndimage
from torch import Tensor, nn

from instsynth_dagster.data.masks import mask_box
from instsynth_dagster.demo.pretraining.autoencoder import encode
from instsynth_dagster.demo.pretraining.clip import claims, draw_caption
from instsynth_dagster.demo.pretraining.corpus import Corpus
from instsynth_dagster.models.quiet import quiet_diffusers, quiet_transformers
from instsynth_dagster.seeds import content_seed

CAPTION_DROPOUT = 0.1
SCALE = 4
"""Pixels per latent cell."""


class Foundations:
    """The frozen parts of a latent diffusion model: the mini autoencoder and mini-clip's text side."""

    def __init__(self, autoencoder: Path, clip: Path) -> None:
        with quiet_diffusers():
            self.autoencoder = (
                diffusers.AutoencoderTiny.from_pretrained(autoencoder, local_files_only=True).float().eval()
            )
        with quiet_transformers():
            self.text_encoder = transformers.CLIPTextModel.from_pretrained(
                clip, local_files_only=True, dtype=torch.float32
            ).eval()
            self.tokenizer = transformers.CLIPTokenizer.from_pretrained(clip, local_files_only=True)
        self._encoded: dict[str, tuple[Tensor, Tensor]] = {}

    @torch.inference_mode()
    def encode_text(self, text: str) -> tuple[Tensor, Tensor]:
        """Hidden states (L, D) and pooled feature (D,) of a text, computed once."""
        if text not in self._encoded:
            tokens = self.tokenizer(text, padding="max_length", return_tensors="pt")
            output = self.text_encoder(tokens["input_ids"])
            self._encoded[text] = output.last_hidden_state[0].clone(), output.pooler_output[0].clone()
        return self._encoded[text]

    def save_pipeline(self, kind: Any, unet: diffusers.UNet2DConditionModel, scheduler: Any, out: Path) -> None:
        """Write a trained UNet with its foundations as a `from_pretrained` folder, fp16."""
        kind(
            vae=copy.deepcopy(self.autoencoder).half(),
            text_encoder=copy.deepcopy(self.text_encoder).half(),
            tokenizer=self.tokenizer,
            unet=unet.cpu().eval().half(),
            scheduler=scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        ).save_pretrained(out)


class EncodedCrops:
    """Training batch number i as a pure function of (seed, i): latents, holes, boxes, classes and captions of crops.

    A batch is of one size; the sizes take turns. Latents of images and masked images, and of their mirror images, are
    encoded once and kept in the folder `latents`.
    """

    def __init__(
        self,
        corpora: Mapping[int, Corpus],
        foundations: Foundations,
        *,
        latents: Path,
        area: int,
        seed: int,
        device: str = "cpu",
    ) -> None:
        """`area` is the number of crops of the smallest size in a batch; larger ones hold as many pixels."""
        self._foundations, self._seed = foundations, seed
        self._encoded = {
            side: _encode_holes(corpus, foundations.autoencoder, latents / str(side), seed, device)
            for side, corpus in corpora.items()
            if len(corpus)
        }
        self._claims = {side: claims(corpora[side]) for side in self._encoded}
        smallest, *larger = self._encoded
        self._turns = [turn for side in larger or [smallest] for turn in dict.fromkeys((smallest, side))]
        self._batch = {side: max(1, round(area * (smallest / side) ** 2)) for side in self._encoded}

    def __call__(self, number: int) -> dict[str, Tensor]:
        """latents and masked float32 (B, 4, s, s), mask float32 (B, 1, s, s), hidden (B, L, D), box float32 (B, 4) in
        0..1, phrase (B, D), index int64 (B,), s a fourth of the side. From the N-th on, an index is that of the mirror
        image of crop `index - N`."""
        side = self._turns[number % len(self._turns)]
        generator = np.random.default_rng(content_seed(self._seed, "holes", number))
        encoded, claimed = self._encoded[side], self._claims[side]
        chosen = generator.integers(len(encoded.masks), size=self._batch[side])
        about = [claimed[index % len(claimed)] for index in chosen.tolist()]
        texts = [draw_caption(claim, generator)[0] for claim in about]
        texts = ["" if generator.random() < CAPTION_DROPOUT else text for text in texts]
        return {
            "latents": torch.from_numpy(encoded.latents[chosen].astype(np.float32)),
            "masked": torch.from_numpy(encoded.masked[chosen].astype(np.float32)),
            "mask": torch.from_numpy(encoded.masks[chosen].astype(np.float32))[:, None],
            "hidden": torch.stack([self._foundations.encode_text(text)[0] for text in texts]),
            "box": encoded.boxes[chosen],
            "phrase": torch.stack([self._foundations.encode_text(claim.class_name)[1] for claim in about]),
            "index": torch.from_numpy(chosen),
        }


@dataclass(frozen=True)
class _Encoded:
    """float16 latents (2 N, 4, s, s) of images and of masked images, bool masks (2 N, s, s) and boxes (2 N, 4) in 0..1:
    those of N crops, then those of their mirror images."""

    latents: np.ndarray
    masked: np.ndarray
    masks: np.ndarray
    boxes: Tensor


def _encode_holes(
    corpus: Corpus, autoencoder: diffusers.AutoencoderTiny, folder: Path, seed: int, device: str
) -> _Encoded:
    """Encode a corpus, or open what is there. A hole is the instance, sometimes grown by a few pixels."""
    paths = [folder / f"{name}.npy" for name in ("latents", "masked", "masks")]
    if not paths[-1].exists():
        folder.mkdir(parents=True, exist_ok=True)
        parts: tuple[list[np.ndarray], ...] = ([], [], [])
        for mirrored in (False, True):
            for start in range(0, len(corpus), 512):
                part = corpus.take(slice(start, start + 512))
                holes = np.stack([_grow(mask, content_seed(seed, start + i)) for i, mask in enumerate(part.masks)])
                images = np.asarray(part.images)
                if mirrored:
                    images, holes = images[:, :, ::-1], holes[:, :, ::-1]
                parts[0].append(encode(autoencoder, images, device=device).numpy().astype(np.float16))
                parts[1].append(encode(autoencoder, images, holes, device=device).numpy().astype(np.float16))
                parts[2].append(touched_cells(holes, SCALE))
        for path, arrays in zip(paths, parts, strict=True):
            np.save(path, np.concatenate(arrays))
    latents, masked, masks = (np.load(path, mmap_mode="r") for path in paths)
    return _Encoded(latents, masked, masks, torch.tensor([mask_box(mask) for mask in masks]) / masks.shape[1])


def touched_cells(holes: np.ndarray, scale: int) -> np.ndarray:
    """Cells of which a hole takes any part: bool (N, S, S) -> (N, S / scale, S / scale); none is lost, however thin."""
    count, height, width = holes.shape
    return holes.reshape(count, height // scale, scale, width // scale, scale).max(axis=(2, 4))


def load_fitting(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Take over the weights whose name and shape fit. The output of attention blocks that are new starts at zero, so
    that the network begins as the one it grew from."""
    own = network.state_dict()
    fitting = {name: value for name, value in weights.items() if name in own and own[name].shape == value.shape}
    fresh = [name for name in own if name not in fitting and ".attentions." in name and ".proj_out." in name]
    network.load_state_dict(fitting | {name: torch.zeros_like(own[name]) for name in fresh}, strict=False)


def _grow(mask: np.ndarray, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    pixels = int(generator.integers(1, 5)) if generator.random() < 0.4 else 0
    return ndimage.binary_dilation(mask, iterations=pixels) if pixels else mask
