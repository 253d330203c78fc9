"""Pretrains the demo's generative models one after the other: corpus, autoencoder, mini-clip, mini-sd-inpaint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from instsynth_dagster.cityscapes import CLASSES
from instsynth_dagster.images import encode_png
from instsynth_dagster.pretraining import autoencoder, clip, inpainting
from instsynth_dagster.pretraining.cards import is_complete, write_card
from instsynth_dagster.pretraining.corpus import Corpus, CorpusRecipe, build_corpus
from instsynth_dagster.pretraining.judgement import measure_prompts, repaint_held_out, repainting_sheet
from instsynth_dagster.pretraining.vision import Bars
from instsynth_dagster.segmenters.base import FitResult
from instsynth_dagster.settings import GeneratorSettings

TRAINING, HELD_OUT = CorpusRecipe(), CorpusRecipe(per_class=200, seed=1)
JUDGED = 25
"""Held-out instances of each class that the finished generator repaints for its card."""


def pretrain_generative(build: Path, checkpoints: Path, bars: Bars) -> None:
    """Make checkpoints/mini-clip and checkpoints/mini-sd-inpaint from nothing, model cards included.

    Args:
        build: corpus and unfinished trainings; the same call goes on from there.
        checkpoints: holds one `from_pretrained` folder per model.
    """
    clip_folder, inpaint_folder = checkpoints / "mini-clip", checkpoints / "mini-sd-inpaint"
    if is_complete(clip_folder) and is_complete(inpaint_folder):
        return
    training, held_out = _corpora(build / "corpus", bars)
    if not is_complete(clip_folder):
        make_clip(training, held_out, clip_folder, build / "mini-clip", bars)
    make_inpainting(training, held_out, clip_folder, inpaint_folder, build, bars)


def _corpora(folder: Path, bars: Bars) -> Iterator[Corpus]:
    for name, recipe in (("training", TRAINING), ("held_out", HELD_OUT)):
        with bars(f"rendering the {name.replace('_', '-')} corpus", recipe.per_class * len(CLASSES)) as progress:
            yield build_corpus(folder / name, recipe, progress=progress)


def make_clip(training: Corpus, held_out: Corpus, out: Path, scratch: Path, bars: Bars) -> None:
    """Train mini-clip, first both towers, then sight alone, and write its card."""
    both, sight = clip.RECIPE, clip.VISION_RECIPE
    with bars("training mini-clip", both.steps) as progress:
        first = clip.train_clip(
            training, out=scratch / "both/final", scratch=scratch / "both", recipe=both, progress=progress
        )
    with bars("training mini-clip's sight", sight.steps) as progress:
        second = clip.train_vision(
            training, first.folder, out=out, scratch=scratch / "vision", recipe=sight, progress=progress
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
  towers, then {sight.steps} for the vision tower with the text tower locked; AdamW, learning rate
  {both.learning_rate:g}, poly 0.9, {result.seconds / 60:.0f} minutes.
- **Measured** on {len(held_out):,} held-out instances: class {accuracy["class"]:.1%} of eight and colour
  {accuracy["color"]:.1%} given the class when cut out; {accuracy["class_in_context"]:.1%} and
  {accuracy["color_in_context"]:.1%} in their surroundings.
""",
    )


def make_inpainting(training: Corpus, held_out: Corpus, clip_folder: Path, out: Path, build: Path, bars: Bars) -> None:
    """Train the autoencoder and the UNet; write the pipeline, its card and a contact sheet."""
    first, recipe = autoencoder.RECIPE, inpainting.RECIPE
    with bars("training the autoencoder", first.steps) as progress:
        coder = autoencoder.train_autoencoder(
            training,
            out=build / "autoencoder" / "final",
            scratch=build / "autoencoder",
            recipe=first,
            progress=progress,
        )
    with bars("training mini-sd-inpaint", recipe.steps) as progress:
        result = inpainting.train_inpainting(
            training,
            coder.folder,
            clip_folder,
            out=out,
            scratch=build / "mini-sd-inpaint",
            recipe=recipe,
            progress=progress,
        )
    quality = autoencoder.measure_reconstruction(coder.folder, held_out)
    settings = GeneratorSettings(
        kind="diffinpainting", model=str(out), size=training.images.shape[1], steps=15, guidance=3.0, batch_size=16
    )
    judged = _first_of_each_class(held_out, JUDGED)
    versions = [repaint_held_out(settings, judged, replica) for replica in range(3)]
    accuracy = measure_prompts(clip_folder, judged, versions[0])
    (out / "contact_sheet.png").write_bytes(encode_png(repainting_sheet(judged, versions)))
    _write_inpainting_card(out, result, len(training), quality, accuracy, len(judged), settings)


def _first_of_each_class(corpus: Corpus, count: int) -> Corpus:
    chosen = np.sort(np.concatenate([np.flatnonzero(corpus.table["class_name"] == name)[:count] for name in CLASSES]))
    return corpus.take(chosen)


def _write_inpainting_card(
    out: Path,
    result: FitResult,
    crops: int,
    quality: dict[str, float],
    accuracy: dict[str, float],
    judged: int,
    settings: GeneratorSettings,
) -> None:
    recipe = inpainting.RECIPE
    write_card(
        out,
        result,
        f"""# mini-sd-inpaint

A small Stable Diffusion inpainting pipeline (diffusers `StableDiffusionInpaintPipeline`): AutoencoderTiny with 4 latent
channels at a quarter of the width, a 9-channel UNet, mini-clip's text encoder. It repaints an instance of a procedural
street inside its mask, with the class and colour of a prompt such as "a photo of a red car".

- **Data**: {crops:,} captioned crops with masks of rendered scenes; other seeds than any demo city.
- **Training**: autoencoder {autoencoder.RECIPE.steps} steps of {autoencoder.RECIPE.batch_size} patches; UNet
  {recipe.steps} steps of {recipe.batch_size}, velocity prediction, zero terminal SNR, AdamW, learning rate
  {recipe.learning_rate:g}, poly 0.9, {result.seconds / 60:.0f} minutes.
- **Measured** on held-out crops: autoencoder {quality["psnr"]:.1f} dB PSNR, mean colour of an instance off by
  {quality["color_error"]:.1f} grey levels. {judged} instances repainted with another prompt of their class
  ({settings.steps} steps, guidance {settings.guidance:g}): mini-clip, seeing them cut out, names the
  class of {accuracy["class"]:.1%} and the prompt's colour of {accuracy["color"]:.1%} (of the untouched instances:
  {accuracy["class_before"]:.1%} and {accuracy["color_before"]:.1%}).

![repainted instances](contact_sheet.png)
""",
    )
