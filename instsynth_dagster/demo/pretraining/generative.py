"""Pretrains the demo's generative models one after the other: corpus, mini-clip, autoencoder and its decoder,
mini-sd-inpaint, mini-gligen, mini-controlnet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.data.images import encode_jpeg
from instsynth_dagster.demo.pretraining import autoencoder, clip, sharpening
from instsynth_dagster.demo.pretraining.cards import is_complete, write_card
from instsynth_dagster.demo.pretraining.corpus import Corpus, CorpusRecipe, build_corpora
from instsynth_dagster.demo.pretraining.grounded import MiniGligen
from instsynth_dagster.demo.pretraining.guided import MiniControlNet
from instsynth_dagster.demo.pretraining.inpainting import MiniInpainting
from instsynth_dagster.demo.pretraining.judgement import judge
from instsynth_dagster.demo.pretraining.latents import Foundations
from instsynth_dagster.demo.pretraining.mini_generator import CardFacts, Corpora, MiniGenerator, train_generator
from instsynth_dagster.demo.pretraining.timed import TimedRecipe
from instsynth_dagster.demo.pretraining.vision import Bars
from instsynth_dagster.segmenters.contract import FitResult
from instsynth_dagster.settings import GeneratorSettings

GENERATORS: tuple[MiniGenerator, ...] = (MiniInpainting(), MiniGligen(), MiniControlNet())
"""In this order: each needs mini-sd-inpaint."""
TRAINING, HELD_OUT = CorpusRecipe(), CorpusRecipe(per_class=200, seed=1)
SAMPLING: dict[str, dict[str, Any]] = {
    "diffinpainting": {"steps": 15, "guidance": 3.0},
    "controlnet_inpaint": {"steps": 15, "guidance": 3.0},
    "gligen": {"steps": 20, "guidance": 3.0},
    "blendeddiff": {"steps": 20, "guidance": 3.0, "strength": 0.9},
}
"""How the cards' figures are sampled."""
CARD_QUALITY = 55
"""JPEG quality of a card's pictures."""
JUDGED = 25
"""Held-out instances of each class that the finished generator repaints for its card."""
SHARES = {"decoder": 0.15, "mini-sd-inpaint": 0.5, "mini-gligen": 0.2, "mini-controlnet": 0.15}
"""How the trainings share a time that is given for all."""


def pretrain_generative(
    build: Path, checkpoints: Path, bars: Bars, *, minutes: float | None = None, device: str = "cpu"
) -> None:
    """Make mini-clip, mini-sd-inpaint, mini-gligen and mini-controlnet below `checkpoints`, model cards included.

    Args:
        build: corpus and unfinished trainings; the same call goes on from there.
        checkpoints: holds one `from_pretrained` folder per model.
        minutes: time for the generators together, mini-clip and the corpus not counted; generators that are there
            already are trained on. By default each recipe's own time, for those that are missing.
    """
    names = ("mini-clip", *(generator.name for generator in GENERATORS))
    folders = {name: checkpoints / name for name in names}
    if minutes is None and all(is_complete(folder) for folder in folders.values()):
        return
    training, held_out = _corpora(build / "corpus", bars)
    smallest = training[min(training)]
    if not is_complete(folders["mini-clip"]):
        make_clip(smallest, held_out[min(held_out)], folders["mini-clip"], build / "mini-clip", bars)
    sharpened = make_autoencoder(training, folders["mini-sd-inpaint"], build, bars, minutes, device)
    given = TrainingContext(
        training, held_out, Foundations(sharpened, folders["mini-clip"]), folders, build, bars, minutes, device
    )
    for generator in GENERATORS:
        if minutes or not is_complete(folders[generator.name]):
            make_generator(generator, given)


def _corpora(folder: Path, bars: Bars) -> Iterator[dict[int, Corpus]]:
    for name, recipe in (("training", TRAINING), ("held_out", HELD_OUT)):
        total = recipe.per_class * len(CITYSCAPES.classes)
        with bars(f"rendering the {name.replace('_', '-')} corpus", total) as progress:
            yield build_corpora(folder / name, recipe, progress=progress)


def _timed(recipe: TimedRecipe, name: str, minutes: float | None) -> TimedRecipe:
    """A recipe with its share of the time for all."""
    return recipe if minutes is None else replace(recipe, minutes=minutes * SHARES[name])


def make_autoencoder(
    training: Corpora, inpainting: Path, build: Path, bars: Bars, minutes: float | None, device: str
) -> Path:
    """The folder of the autoencoder: mini-sd-inpaint's where there is one, with a decoder trained on where time is
    given; otherwise trained from nothing."""
    out = build / "decoder" / "final"
    if is_complete(inpainting):
        given = inpainting / "vae"
        if minutes is None:
            return given
    else:
        with bars("training the autoencoder", autoencoder.RECIPE.steps) as progress:
            given = autoencoder.train_autoencoder(
                training[min(training)],
                out=build / "autoencoder" / "final",
                scratch=build / "autoencoder",
                recipe=autoencoder.RECIPE,
                progress=progress,
            ).folder
    recipe = _timed(sharpening.RECIPE, "decoder", minutes)
    with bars("sharpening the decoder, seconds", round(recipe.minutes * 60)) as progress:
        sharpening.train_decoder(
            training[max(training)],
            given,
            out=out,
            scratch=build / "decoder",
            recipe=recipe,
            device=device,
            progress=progress,
        )
    return out


def make_clip(training: Corpus, held_out: Corpus, out: Path, scratch: Path, bars: Bars) -> None:
    """Train mini-clip, first both towers, then the vision tower alone, and write its card."""
    both, vision = clip.RECIPE, clip.VISION_RECIPE
    with bars("training mini-clip", both.steps) as progress:
        first = clip.train_clip(
            training, out=scratch / "both/final", scratch=scratch / "both", recipe=both, progress=progress
        )
    with bars("training mini-clip's vision tower", vision.steps) as progress:
        second = clip.train_vision(
            training, first.folder, out=out, scratch=scratch / "vision", recipe=vision, progress=progress
        )
    second.curve["step"] += both.steps
    curve = pd.concat([first.curve, second.curve], ignore_index=True)
    result = FitResult(out, curve, first.seconds + second.seconds, max(first.peak_memory, second.peak_memory))
    accuracy = clip.measure_clip(out, held_out)
    write_card(
        out,
        result,
        f"""# mini-clip

A small CLIP (transformers `CLIPModel` with its own byte-pair `CLIPTokenizer`) that knows the eight instance classes of
Cityscapes, seven colours and man from woman in procedural streets. Text encoder of the other mini checkpoints; its
similarities stand for CLIPScore in the demo.

- **Data**: {len(training):,} captioned instances of rendered scenes, the same number of each class, half of them cut
  out on grey; other seeds than any demo city.
- **Training**: contrastive, all true pairs of a batch positive; {both.steps} steps of {both.batch_size} pairs for both
  towers, then {vision.steps} for the vision tower with the text tower locked; AdamW, learning rate
  {both.learning_rate:g}, poly 0.9, {result.seconds / 60:.0f} minutes.
- **Measured** on {len(held_out):,} held-out instances: class {accuracy["class"]:.1%} of eight and colour
  {accuracy["color"]:.1%} given the class when cut out; {accuracy["class_in_context"]:.1%} and
  {accuracy["color_in_context"]:.1%} in their surroundings.
""",
    )


@dataclass(frozen=True)
class TrainingContext:
    """What the trainings of all generators share.

    foundations: the frozen parts; folders: checkpoints by model name; build: unfinished work; minutes: the time for
    all, None for each recipe's own.
    """

    training: Corpora
    held_out: Corpora
    foundations: Foundations
    folders: Mapping[str, Path]
    build: Path
    bars: Bars
    minutes: float | None
    device: str


def make_generator(generator: MiniGenerator, given: TrainingContext) -> None:
    """Train a mini generator, judge it on held-out crops, and write its card with a contact sheet for each use."""
    inpainting, out = given.folders[MiniInpainting.name], given.folders[generator.name]
    recipe = _timed(generator.recipe, generator.name, given.minutes)
    with given.bars(f"training {generator.name}, seconds", round(recipe.minutes * 60)) as progress:
        result = train_generator(
            generator,
            given.training,
            given.foundations,
            inpainting,
            out=out,
            latents=given.build / "latents",
            scratch=given.build / generator.name,
            start=out if is_complete(out) else None,
            recipe=recipe,
            device=given.device,
            progress=progress,
        )
    write_generator_card(generator, result, recipe, given)


def write_generator_card(
    generator: MiniGenerator, result: FitResult, recipe: TimedRecipe, given: TrainingContext
) -> None:
    """Judge a trained mini generator in each of its uses and write its card with their contact sheets."""
    out, texts, pictures = given.folders[generator.name], {}, []
    names = generator.settings(out, given.folders[MiniInpainting.name])
    for kind in generator.kinds:
        settings = _settings(kind, names)
        judged = judge(settings, given.held_out, given.folders["mini-clip"], JUDGED, given.device)
        sheet = f"{kind}.jpg" if len(generator.kinds) > 1 else "contact_sheet.jpg"
        (out / sheet).write_bytes(encode_jpeg(judged.sheet, CARD_QUALITY))
        pictures.append(f"![instances repainted by {kind}]({sheet})")
        texts[kind] = judged.text(settings)
    described = _described(recipe, result, generator.batch)
    facts = CardFacts(_counted(given.training), described, texts, out, given.held_out)
    write_card(out, result, generator.card(facts) + "\n" + "\n".join(pictures) + "\n")


def _settings(kind: str, names: Mapping[str, str]) -> GeneratorSettings:
    smallest, *larger = TRAINING.sides
    return GeneratorSettings.model_validate(
        {"kind": kind, "size": smallest, "sizes": larger, "batch_size": 8} | SAMPLING[kind] | dict(names)
    )


def _counted(training: Corpora) -> str:
    smallest, *larger = training
    further = ", ".join(f"{len(training[side]):,} of them at {side}" for side in larger)
    return f"{len(training[smallest]):,} captioned crops at {smallest} pixels" + (f" ({further})" if further else "")


def _described(recipe: TimedRecipe, result: FitResult, batch: int) -> str:
    steps = int(result.curve["step"].iloc[-1])
    return (
        f"{steps} steps of {batch} crops or as many pixels of larger\n  ones, mirrored half of the time, "
        f"velocity prediction, zero terminal SNR, min-SNR weights, AdamW, learning rate\n  {recipe.learning_rate:g}, "
        f"moving average of the weights, {result.seconds / 60:.0f} minutes"
    )
