"""Training examples of the latent diffusion models: encoded crops with their holes, boxes and captions."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderTiny, UNet2DConditionModel
from scipy import ndimage
from torch import Tensor
from torch.utils.data import Dataset
from transformers import CLIPTextModel, CLIPTokenizer

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
            self.autoencoder = AutoencoderTiny.from_pretrained(autoencoder, local_files_only=True).float().eval()
        with quiet_transformers():
            self.text_encoder = CLIPTextModel.from_pretrained(clip, local_files_only=True, dtype=torch.float32).eval()
            self.tokenizer = CLIPTokenizer.from_pretrained(clip, local_files_only=True)
        self._encoded: dict[str, tuple[Tensor, Tensor]] = {}

    @torch.inference_mode()
    def encode_text(self, text: str) -> tuple[Tensor, Tensor]:
        """Hidden states (L, D) and pooled feature (D,) of a text, computed once."""
        if text not in self._encoded:
            tokens = self.tokenizer(text, padding="max_length", return_tensors="pt")
            output = self.text_encoder(tokens["input_ids"])
            self._encoded[text] = output.last_hidden_state[0].clone(), output.pooler_output[0].clone()
        return self._encoded[text]

    def save_pipeline(self, kind: Any, unet: UNet2DConditionModel, scheduler: Any, out: Path) -> None:
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


class EncodedCrops(Dataset):
    """Training example number i as a pure function of (seed, i): latents, hole, box, class and caption of a crop.

    Latents of image and masked image are encoded once and kept in the folder `latents`.
    """

    def __init__(
        self,
        corpus: Corpus,
        foundations: Foundations,
        *,
        latents: Path,
        count: int,
        seed: int,
    ) -> None:
        self._latents, self._masked, self._masks = _encode_holes(corpus, foundations.autoencoder, latents, seed)
        self._foundations, self._count, self._seed = foundations, count, seed
        self._claims = claims(corpus)
        self._boxes = torch.tensor([mask_box(mask) for mask in self._masks]) / self._masks.shape[1]

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        generator = np.random.default_rng(content_seed(self._seed, "hole", index))
        chosen = generator.integers(len(self._claims))
        text, _ = draw_caption(self._claims[chosen], generator)
        return {
            "latents": torch.from_numpy(self._latents[chosen].astype(np.float32)),
            "masked": torch.from_numpy(self._masked[chosen].astype(np.float32)),
            "mask": torch.from_numpy(self._masks[chosen].astype(np.float32))[None],
            "hidden": self._foundations.encode_text("" if generator.random() < CAPTION_DROPOUT else text)[0],
            "box": self._boxes[chosen],
            "phrase": self._foundations.encode_text(self._claims[chosen].class_name)[1],
        }


def _encode_holes(corpus: Corpus, autoencoder: AutoencoderTiny, folder: Path, seed: int) -> list[np.ndarray]:
    """float16 latents of images and of masked images, and bool masks at latent size.

    A hole is the instance, sometimes grown by a few pixels.
    """
    paths = [folder / f"{name}.npy" for name in ("latents", "masked", "masks")]
    if not paths[-1].exists():
        folder.mkdir(parents=True, exist_ok=True)
        latents, masked, masks = [], [], []
        for start in range(0, len(corpus), 512):
            part = corpus.take(slice(start, start + 512))
            holes = np.stack([_grow(mask, content_seed(seed, start + i)) for i, mask in enumerate(part.masks)])
            images = np.asarray(part.images)
            latents.append(encode(autoencoder, images).numpy().astype(np.float16))
            masked.append(encode(autoencoder, images, holes).numpy().astype(np.float16))
            masks.append(holes[:, ::SCALE, ::SCALE])
        for path, arrays in zip(paths, (latents, masked, masks), strict=True):
            np.save(path, np.concatenate(arrays))
    return [np.load(path, mmap_mode="r") for path in paths]


def _grow(mask: np.ndarray, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    pixels = int(generator.integers(1, 5)) if generator.random() < 0.4 else 0
    return ndimage.binary_dilation(mask, iterations=pixels) if pixels else mask
