"""Judging an inpainting checkpoint: held-out instances repainted with other prompts, seen by mini-clip and by eye."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.data.images import resize_image
from instsynth_dagster.data.masks import resize_mask
from instsynth_dagster.demo.city.palette import Attributes, caption, draw_attributes
from instsynth_dagster.demo.pretraining.clip import name_accuracy
from instsynth_dagster.demo.pretraining.corpus import Corpus
from instsynth_dagster.evaluation.report.gallery import contact_sheet
from instsynth_dagster.models.clip import Clip
from instsynth_dagster.seeds import content_seed
from instsynth_dagster.settings import GeneratorSettings
from instsynth_dagster.synthesis.crops import focus
from instsynth_dagster.synthesis.gates import sharpness
from instsynth_dagster.synthesis.generators import load_generator


@dataclass(frozen=True)
class Judgement:
    """accuracy: see `measure_prompts`; sharpness: median of each class, see `gates.sharpness`; count: instances; sheet:
    a contact sheet, uint8 (H, W, 3)."""

    accuracy: dict[str, float]
    sharpness: dict[str, float]
    count: int
    sheet: np.ndarray

    def text(self, settings: GeneratorSettings) -> str:
        """The figures as a sentence for a model card."""
        a = self.accuracy
        return (
            f"{self.count} held-out instances repainted with another\n  prompt of their class ({settings.steps} steps, "
            f"guidance {settings.guidance:g}): mini-clip, seeing them cut out, names the class of\n  {a['class']:.1%} "
            f"and the prompt's colour of {a['color']:.1%} (of the untouched instances {a['class_before']:.1%} and "
            f"{a['color_before']:.1%}). Sharpness against the source's: "
            f"{', '.join(f'{name} {value:.2f}' for name, value in self.sharpness.items())}."
        )


def judge(
    settings: GeneratorSettings, corpora: Mapping[int, Corpus], clip_folder: Path, per_class: int, device: str = "cpu"
) -> Judgement:
    """Repaint the first instances of each class, each at the size that loses nothing of it, for the figures; those that
    the contact sheet shows are repainted twice more, with other prompts and seeds.

    Args:
        corpora: held-out crops by side, see `build_corpora`.
    """
    table = corpora[min(corpora)].table
    chosen = np.concatenate([np.flatnonzero(table["class_name"] == name)[:per_class] for name in CITYSCAPES.classes])
    native = at_native_size(corpora, set(chosen.tolist()))
    painted = [repaint_held_out(settings, part, 0, device) for part in native]
    sharp = [
        sharpness(*crop)
        for part, source in zip(painted, native, strict=True)
        for crop in zip(part.images, source.images, source.masks, strict=True)
    ]
    side = max(corpora)
    judged, first = joined_crops(native, side), joined_paintings(painted, side)
    accuracy = measure_prompts(clip_folder, judged, first)
    by_class = pd.Series(sharp).groupby(judged.table["class_name"]).median().to_dict()  # a dark source gives any ratio
    shown = fullest_crops(judged)
    again = at_native_size(corpora, set(judged.table["number"].iloc[shown]))
    versions = [first.take(shown)] + [
        joined_paintings([repaint_held_out(settings, part, replica, device) for part in again], side)
        for replica in (1, 2)
    ]
    return Judgement(accuracy, by_class, len(judged), repainting_sheet(judged.take(shown), versions))


def fullest_crops(corpus: Corpus, per_class: int = 2) -> np.ndarray:
    """int (N,): ascending numbers of the crops of each class that their instance fills most, because they are seen
    best."""
    filled = pd.Series(corpus.masks.mean(axis=(1, 2)))
    return np.sort(filled.groupby(corpus.table["class_name"]).nlargest(per_class).index.get_level_values(1))


def joined_crops(parts: Sequence[Corpus], side: int) -> Corpus:
    """Crops of several sizes one after the other, all resized to one."""
    return Corpus(
        np.concatenate([_resized(part.images, side) for part in parts]),
        np.concatenate([np.stack([resize_mask(mask, side) for mask in part.masks]) for part in parts]),
        pd.concat([part.table for part in parts], ignore_index=True),
    )


def joined_paintings(parts: Sequence[Repainted], side: int) -> Repainted:
    """Repaintings of several sizes one after the other, all resized to one."""
    images = np.concatenate([_resized(part.images, side) for part in parts])
    return Repainted(images, [about for part in parts for about in part.wanted])


def at_native_size(corpora: Mapping[int, Corpus], numbers: Collection[int] | None = None) -> list[Corpus]:
    """Every crop once, at the smallest side that loses nothing of it, or at the largest.

    Args:
        numbers: of the crops wanted, in the corpus of the smallest side; all by default.
    """
    sides = sorted(corpora)
    parts = []
    for side, larger in zip(sides, [*sides[1:], None], strict=True):
        table = corpora[side].table
        here = np.ones(len(table), bool) if larger is None else (table["side"] <= side).to_numpy()
        if numbers is not None:
            here = here & table["number"].isin(numbers).to_numpy()
        if here.any():
            parts.append(corpora[side].take(np.flatnonzero(here)))
    return parts


def _resized(images: np.ndarray, side: int) -> np.ndarray:
    return np.stack([resize_image(np.ascontiguousarray(image), (side, side)) for image in images])


@dataclass(frozen=True)
class Repainted:
    """images: uint8 (N, S, S, 3), pasted back inside the mask; wanted: what each prompt asked for."""

    images: np.ndarray
    wanted: list[Attributes]

    def take(self, which: np.ndarray) -> Repainted:
        """Some of them, by numbers."""
        return Repainted(self.images[which], [self.wanted[number] for number in which])


def repaint_held_out(settings: GeneratorSettings, corpus: Corpus, replica: int = 0, device: str = "cpu") -> Repainted:
    """Every crop repainted with a caption of its class and of another colour than it has.

    The last batch may be smaller; that changes no more than the last bits.
    """
    generator = load_generator(settings.kind, settings, device)
    wanted = [
        other_attributes(row.class_name, row.color, content_seed("judged", index, replica))
        for index, row in enumerate(corpus.table.itertuples())
    ]
    images = []
    for start in range(0, len(corpus), settings.batch_size):
        part = corpus.take(slice(start, start + settings.batch_size))
        prompts = [caption(about) for about in wanted[start : start + len(part)]]
        seeds = [content_seed(prompt, start + i, replica) for i, prompt in enumerate(prompts)]
        names = part.table["class_name"].tolist()
        painted = generator.fill(np.asarray(part.images), np.asarray(part.masks), prompts, names, seeds)
        images.append(np.where(part.masks[..., None], painted, part.images))
    return Repainted(np.concatenate(images), wanted)


def other_attributes(class_name: str, color: str, seed: int) -> Attributes:
    """Attributes of a class by chance, of another colour than `color`."""
    generator = np.random.default_rng(seed)
    while True:
        about = draw_attributes(generator, class_name)
        if about.color != color:
            return about


def measure_prompts(clip_folder: Path, corpus: Corpus, repainted: Repainted) -> dict[str, float]:
    """How often (0..1) mini-clip names the class and, given the class, the prompt's colour of cut-out instances:
    "class" and "color" of the repainted ones, "class_before" and "color_before" of the untouched."""
    judge = Clip(clip_folder)
    accuracy: dict[str, float] = {}
    for suffix, images, colors in (
        ("", repainted.images, [about.color for about in repainted.wanted]),
        ("_before", corpus.images, corpus.table["color"].tolist()),
    ):
        seen = [focus(image, mask, cut_out=True) for image, mask in zip(images, corpus.masks, strict=True)]
        found = name_accuracy(judge, seen, corpus.table["class_name"].tolist(), colors)
        accuracy |= {name + suffix: share for name, share in found.items()}
    return accuracy


def repainting_sheet(corpus: Corpus, versions: Sequence[Repainted], tile: int = 144) -> np.ndarray:
    """One row per class: its source crops, each followed by its repaintings with their prompts; uint8 (H, W, 3)."""
    tiles, captions, across = [], [], 1
    for name in CITYSCAPES.classes:
        of_class = np.flatnonzero(corpus.table["class_name"] == name)
        across = max(across, len(of_class))
        for index in of_class:
            tiles += [corpus.images[index], *(version.images[index] for version in versions)]
            prompts = [caption(version.wanted[index]).removeprefix("a photo of ") for version in versions]
            captions += ["source", *prompts]
    return contact_sheet([resize_image(t, (tile, tile)) for t in tiles], across * (1 + len(versions)), captions)
