"""mini-clip: a CLIPModel and its tokenizer, trained on captioned procedural instances.

The symmetric contrastive loss of CLIP with one difference: with so few attributes a batch holds many captions that are
true of several images, so every true pair is a positive (the target is uniform over the true ones).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset, default_collate

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.demo.city.palette import CLOTHES, PAINTS, Attributes, caption
from instsynth_dagster.demo.pretraining.corpus import Corpus
from instsynth_dagster.demo.pretraining.recipe import Recipe
from instsynth_dagster.demo.pretraining.vocabulary import train_tokenizer
from instsynth_dagster.models.clip import Clip
from instsynth_dagster.models.quiet import quiet_transformers
from instsynth_dagster.seeds import content_seed
from instsynth_dagster.segmenters.contract import FitResult, Progress
from instsynth_dagster.segmenters.training.loop import isolated_random_state, train
from instsynth_dagster.synthesis.crops import focus

TOKENS = 32
TEXT: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": TOKENS,
}
VISION: dict[str, Any] = {
    "hidden_size": 144,
    "intermediate_size": 576,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "image_size": 96,
    "patch_size": 16,
}
RECIPE = Recipe(steps=1200, batch_size=128, learning_rate=1e-3, weight_decay=0.1)
VISION_RECIPE = Recipe(steps=4000, batch_size=128, learning_rate=1e-3, weight_decay=0.1)
"""Text is learned sooner than vision: after `RECIPE` the text tower is locked (LiT, Zhai et al. 2022)."""

_FRAMES = ("a photo of {}", "a photo of {}", "{}", "a picture of {}", "a photo of {} on a street", "a street with {}")
_VARIANTS = {"person": ("man", "woman"), "rider": ("male", "female")}


@dataclass(frozen=True)
class Claim:
    """What a caption says; an empty colour or variant says nothing about it."""

    class_name: str
    color: str = ""
    variant: str = ""

    def words(self) -> str:
        """The claim as a noun phrase: "a red car", "a woman in a blue coat", "a rider"."""
        if self.color and (self.variant or self.class_name not in _VARIANTS):
            return caption(Attributes(self.class_name, self.color, self.variant)).removeprefix("a photo of ")
        person = self.class_name == "person"
        noun = self.variant or "person" if person else f"{self.variant} {self.class_name}".strip()
        return f"a {noun} in {self.color}" if self.color else f"a {noun}"


def draw_caption(claim: Claim, generator: np.random.Generator) -> tuple[str, Claim]:
    """A true caption of an instance, leaving out colour or variant now and then, and what it claims."""
    said = Claim(
        claim.class_name,
        claim.color if generator.random() < 0.9 else "",
        claim.variant if generator.random() < 0.85 else "",
    )
    return _FRAMES[generator.integers(len(_FRAMES))].format(said.words()), said


def claims(corpus: Corpus) -> list[Claim]:
    """The claim that says all that is known of each crop."""
    columns = (corpus.table[name] for name in ("class_name", "color", "variant"))
    return [Claim(*row) for row in zip(*columns, strict=True)]


_COLORS = {"": 0} | {name: i for i, name in enumerate(PAINTS, 1)}
_SEXES = {"": 0, "man": 1, "male": 1, "woman": 2, "female": 2}


def claim_code(claim: Claim) -> list[int]:
    """Class, colour and variant of a claim as numbers; 0 where it says nothing."""
    return [CITYSCAPES.classes.index(claim.class_name), _COLORS[claim.color], _SEXES[claim.variant]]


def true_pairs(texts: Tensor, images: Tensor) -> Tensor:
    """bool (T, I): whether caption t is true of image i, from their codes int64 (T, 3) and (I, 3)."""
    said, seen = texts[:, None], images[None]
    return ((said == seen) | ((said == 0) & (torch.arange(3) > 0))).all(dim=2)


class CaptionedCrops(Dataset):
    """Pair number i of a crop and a drawn caption as a pure function of (seed, i)."""

    def __init__(self, corpus: Corpus, tokenizer: transformers.CLIPTokenizer, count: int, seed: int) -> None:
        self._corpus, self._tokenizer, self._count, self._seed = corpus, tokenizer, count, seed
        self._claims = claims(corpus)
        self._tokens: dict[str, list[int]] = {}

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        generator = np.random.default_rng(content_seed(self._seed, "caption", index))
        chosen = generator.integers(len(self._corpus))
        text, said = draw_caption(self._claims[chosen], generator)
        if text not in self._tokens:
            self._tokens[text] = self._tokenizer(text, padding="max_length", max_length=TOKENS)["input_ids"]
        image = focus(
            self._corpus.images[chosen],
            self._corpus.masks[chosen],
            margin=generator.uniform(0, 0.3),
            cut_out=bool(generator.random() < 0.5),
        )
        if generator.random() < 0.5:
            image = image[:, ::-1]
        pixels = torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32))
        return {
            "pixels": (pixels * generator.uniform(0.9, 1.1)).clamp(0, 255).to(torch.uint8),
            "input_ids": torch.tensor(self._tokens[text]),
            "said": torch.tensor(claim_code(said)),
            "seen": torch.tensor(claim_code(self._claims[chosen])),
        }


class ContrastiveLoss(nn.Module):
    """CLIP's loss over a batch with all true pairs as positives."""

    def __init__(self, clip: transformers.CLIPModel) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, pixels: Tensor, input_ids: Tensor, said: Tensor, seen: Tensor) -> dict[str, Tensor]:
        longest = int((input_ids != input_ids[:, -1:]).sum(dim=1).max()) + 1  # padding does not reach back to the text
        output = self.clip(pixel_values=normalise(pixels), input_ids=input_ids[:, :longest])
        true = true_pairs(said, seen).float()
        logits = output.logits_per_text.float()
        by_text = F.cross_entropy(logits, true / true.sum(1, keepdim=True))
        by_image = F.cross_entropy(logits.T, (true / true.sum(0)).T)
        return {"loss": (by_text + by_image) / 2}


def normalise(pixels: Tensor) -> Tensor:
    """uint8 (B, 3, S, S) -> float32 in [-1, 1]."""
    return pixels.float() / 127.5 - 1


def train_clip(
    corpus: Corpus,
    *,
    out: Path,
    scratch: Path,
    recipe: Recipe = RECIPE,
    seed: int = 0,
    progress: Progress | None = None,
) -> FitResult:
    """Train both towers and write model (fp16), tokenizer and image processor as a `from_pretrained` folder."""
    tokenizer = train_tokenizer(scratch / "tokenizer", TOKENS)
    special = {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    with isolated_random_state(), quiet_transformers():
        torch.manual_seed(content_seed(seed, "clip"))
        clip = transformers.CLIPModel(
            transformers.CLIPConfig(text_config=TEXT | special, vision_config=VISION, projection_dim=128)
        )
    return _fit(clip, tokenizer, corpus, out, scratch, recipe, seed, progress)


def train_vision(
    corpus: Corpus,
    folder: Path,
    *,
    out: Path,
    scratch: Path,
    recipe: Recipe = VISION_RECIPE,
    seed: int = 1,
    progress: Progress | None = None,
) -> FitResult:
    """Go on with the vision tower of `train_clip`'s folder; the text tower stays bit for bit what it was."""
    with quiet_transformers():
        clip = transformers.CLIPModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
        tokenizer = transformers.CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    clip.text_model.requires_grad_(False)
    clip.text_projection.requires_grad_(False)
    return _fit(clip, tokenizer, corpus, out, scratch, recipe, seed, progress)


def _fit(
    clip: transformers.CLIPModel,
    tokenizer: transformers.CLIPTokenizer,
    corpus: Corpus,
    out: Path,
    scratch: Path,
    recipe: Recipe,
    seed: int,
    progress: Progress | None,
) -> FitResult:
    log = train(
        ContrastiveLoss(clip),
        CaptionedCrops(corpus, tokenizer, recipe.steps * recipe.batch_size, seed),
        recipe,
        collate=default_collate,
        seed=seed,
        scratch=scratch,
        device="cpu",
        progress=progress,
    )
    with quiet_transformers():
        clip.eval().half().save_pretrained(out)
        tokenizer.save_pretrained(out)
        side = VISION["image_size"]
        transformers.CLIPImageProcessor(
            size={"height": side, "width": side},
            crop_size={"height": side, "width": side},
            image_mean=[0.5] * 3,
            image_std=[0.5] * 3,
        ).save_pretrained(out)
    return FitResult(out, log.curve, log.seconds, log.peak_memory)


def likeliest_classes(judge: Clip, features: np.ndarray) -> list[str]:
    """The best fitting class of each image."""
    return [CITYSCAPES.classes[i] for i in judge.class_scores(features, classes=CITYSCAPES.classes).argmax(1)]


def likeliest_colors(judge: Clip, features: np.ndarray, class_names: Sequence[str]) -> list[str]:
    """The best fitting colour of each image, its class being known."""
    best = np.empty(len(features), dtype=object)
    for name in sorted(set(class_names)):
        where = np.flatnonzero(np.asarray(class_names) == name)
        known = CLOTHES if name in _VARIANTS else tuple(PAINTS)
        variants = _VARIANTS.get(name, ("",))
        texts = [f"a photo of {Claim(name, color, variant).words()}" for color in known for variant in variants]
        scores = (features[where] @ judge.texts(texts).T).reshape(len(where), len(known), len(variants)).max(axis=2)
        best[where] = [known[i] for i in scores.argmax(1)]
    return best.tolist()


def name_accuracy(
    judge: Clip, images: Sequence[np.ndarray], class_names: Sequence[str], colors: Sequence[str]
) -> dict[str, float]:
    """Top-1 accuracy (0..1) of "class" among the eight, and of "color" given the class."""
    features = judge.images(images)
    return {
        "class": float(np.mean(np.equal(likeliest_classes(judge, features), class_names))),
        "color": float(np.mean(np.equal(likeliest_colors(judge, features, class_names), colors))),
    }


def measure_clip(folder: Path, corpus: Corpus) -> dict[str, float]:
    """`name_accuracy` for instances cut out, and for instances in their surroundings ("..._in_context")."""
    judge = Clip(folder)
    accuracy: dict[str, float] = {}
    for cut_out, suffix in ((True, ""), (False, "_in_context")):
        images = [focus(i, m, cut_out=cut_out) for i, m in zip(corpus.images, corpus.masks, strict=True)]
        found = name_accuracy(judge, images, corpus.table["class_name"].tolist(), corpus.table["color"].tolist())
        accuracy |= {name + suffix: share for name, share in found.items()}
    return accuracy
