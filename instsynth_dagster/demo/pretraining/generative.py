"""Pretrains the demo's generative models one after the other: corpus, mini-clip, autoencoder and its decoder,
mini-sd-inpaint, mini-gligen, mini-controlnet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.data.images import encode_jpeg
from instsynth_dagster.demo.pretraining import autoencoder, clip, grounded, guided, inpainting, sharpening
from instsynth_dagster.demo.pretraining.cards import is_complete, link_equal, write_card
from instsynth_dagster.demo.pretraining.corpus import Corpus, CorpusRecipe, build_corpora
from instsynth_dagster.demo.pretraining.judgement import judge
from instsynth_dagster.demo.pretraining.latents import Foundations
from instsynth_dagster.demo.pretraining.timed import TimedRecipe
from instsynth_dagster.demo.pretraining.vision import Bars
from instsynth_dagster.segmenters.contract import FitResult
from instsynth_dagster.settings import GeneratorSettings

Folders = Mapping[str, Path]
"""Checkpoint folders by model name."""
Corpora = Mapping[int, Corpus]
"""A corpus by side."""

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
    names = ("mini-clip", "mini-sd-inpaint", "mini-gligen", "mini-controlnet")
    folders = {name: checkpoints / name for name in names}
    if minutes is None and all(is_complete(folder) for folder in folders.values()):
        return
    training, held_out = _corpora(build / "corpus", bars)
    smallest = training[min(training)]
    if not is_complete(folders["mini-clip"]):
        make_clip(smallest, held_out[min(held_out)], folders["mini-clip"], build / "mini-clip", bars)
    sharpened = make_autoencoder(training, folders["mini-sd-inpaint"], build, bars, minutes, device)
    foundations = Foundations(sharpened, folders["mini-clip"])
    if minutes or not is_complete(folders["mini-sd-inpaint"]):
        make_inpainting(training, held_out, foundations, folders, build, bars, minutes, device)
    if minutes or not is_complete(folders["mini-gligen"]):
        make_grounded(training, held_out, foundations, folders, build, bars, minutes, device)
    if minutes or not is_complete(folders["mini-controlnet"]):
        make_guided(training, held_out, foundations, folders, build, bars, minutes, device)


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


def make_inpainting(
    training: Corpora,
    held_out: Corpora,
    foundations: Foundations,
    folders: Folders,
    build: Path,
    bars: Bars,
    minutes: float | None = None,
    device: str = "cpu",
) -> None:
    """Train mini-sd-inpaint and write its card with a contact sheet."""
    out, recipe = folders["mini-sd-inpaint"], _timed(inpainting.RECIPE, "mini-sd-inpaint", minutes)
    with bars("training mini-sd-inpaint, seconds", round(recipe.minutes * 60)) as progress:
        result = inpainting.train_inpainting(
            training,
            foundations,
            out=out,
            latents=build / "latents",
            scratch=build / "mini-sd-inpaint",
            start=out if is_complete(out) else None,
            recipe=recipe,
            device=device,
            progress=progress,
        )
    quality = autoencoder.measure_reconstruction(out / "vae", held_out[min(held_out)])
    settings = _settings("diffinpainting", out)
    judged = judge(settings, held_out, folders["mini-clip"], JUDGED)
    (out / "contact_sheet.jpg").write_bytes(encode_jpeg(judged.sheet, CARD_QUALITY))
    write_card(
        out,
        result,
        f"""# mini-sd-inpaint

A small Stable Diffusion inpainting pipeline (diffusers `StableDiffusionInpaintPipeline`): AutoencoderTiny with 4 latent
channels at a quarter of the width, a 9-channel UNet, mini-clip's text encoder. It repaints an instance of a procedural
street inside its mask, with the class and colour of a prompt such as "a photo of a red car".

- **Data**: {_counted(training)} with masks of rendered scenes; other seeds than any demo city.
- **Training**: autoencoder {autoencoder.RECIPE.steps} steps of {autoencoder.RECIPE.batch_size} patches, then its
  decoder alone for sharpness; UNet {_described(recipe, result)}.
- **Measured** on held-out crops: autoencoder {quality["psnr"]:.1f} dB PSNR, mean colour of an instance off by
  {quality["color_error"]:.1f} grey levels. {judged.text(settings)}

![repainted instances](contact_sheet.jpg)
""",
    )


def make_grounded(
    training: Corpora,
    held_out: Corpora,
    foundations: Foundations,
    folders: Folders,
    build: Path,
    bars: Bars,
    minutes: float | None = None,
    device: str = "cpu",
) -> None:
    """Train mini-gligen and write its card with a contact sheet for each of its two uses."""
    out, recipe = folders["mini-gligen"], _timed(grounded.RECIPE, "mini-gligen", minutes)
    with bars("training mini-gligen, seconds", round(recipe.minutes * 60)) as progress:
        result = grounded.train_grounded(
            training,
            foundations,
            folders["mini-sd-inpaint"],
            out=out,
            latents=build / "latents",
            scratch=build / "mini-gligen",
            start=out if is_complete(out) else None,
            recipe=recipe,
            device=device,
            progress=progress,
        )
    for part in ("vae", "text_encoder"):  # the same bytes: kept once
        link_equal(out / part, folders["mini-sd-inpaint"] / part)
    texts = {}
    for kind in ("gligen", "blendeddiff"):
        settings = _settings(kind, out)
        judged = judge(settings, held_out, folders["mini-clip"], JUDGED)
        (out / f"{kind}.jpg").write_bytes(encode_jpeg(judged.sheet, CARD_QUALITY))
        texts[kind] = judged.text(settings)
    write_card(
        out,
        result,
        f"""# mini-gligen

A small GLIGEN (diffusers `UNet2DConditionModel` with gated grounding, 4 channels) with mini-sd-inpaint's autoencoder
and text encoder. With grounding it paints a class where its box says (generator `gligen`); without, it is a plain
text-to-image model (base of `blendeddiff`).

- **Data**: {_counted(training)} with boxes of rendered scenes; other seeds than any demo city.
- **Training**: from mini-sd-inpaint's UNet, {_described(recipe, result)}; half of the steps grounded.
- **Measured**, `gligen`: {texts["gligen"]}
- **Measured**, `blendeddiff`: {texts["blendeddiff"]}

![gligen](gligen.jpg)
![blendeddiff](blendeddiff.jpg)
""",
    )


def make_guided(
    training: Corpora,
    held_out: Corpora,
    foundations: Foundations,
    folders: Folders,
    build: Path,
    bars: Bars,
    minutes: float | None = None,
    device: str = "cpu",
) -> None:
    """Train mini-controlnet and write its card with a contact sheet."""
    out, recipe = folders["mini-controlnet"], _timed(guided.RECIPE, "mini-controlnet", minutes)
    with bars("training mini-controlnet, seconds", round(recipe.minutes * 60)) as progress:
        result = guided.train_guided(
            training,
            foundations,
            folders["mini-sd-inpaint"],
            out=out,
            latents=build / "latents",
            scratch=build / "mini-controlnet",
            start=out if is_complete(out) else None,
            recipe=recipe,
            device=device,
            progress=progress,
        )
    write_guided_card(result, training, held_out, folders, recipe)


def write_guided_card(
    result: FitResult, training: Corpora, held_out: Corpora, folders: Folders, recipe: TimedRecipe
) -> None:
    """Judge mini-controlnet on held-out crops and write its card with a contact sheet."""
    out = folders["mini-controlnet"]
    settings = _settings("controlnet_inpaint", folders["mini-sd-inpaint"], controlnet=str(out))
    judged = judge(settings, held_out, folders["mini-clip"], JUDGED)
    (out / "contact_sheet.jpg").write_bytes(encode_jpeg(judged.sheet, CARD_QUALITY))
    write_card(
        out,
        result,
        f"""# mini-controlnet

A small ControlNet (diffusers `ControlNetModel`) for mini-sd-inpaint, without which it paints nothing: it is shown the
edges of an instance (Canny inside the mask, and the mask's outline) and keeps its structure under another prompt.

- **Data**: {_counted(training)} with masks of rendered scenes; other seeds than any demo city.
- **Training**: from mini-sd-inpaint's encoder, {_described(recipe, result, guided.BATCH)}.
- **Measured**: {judged.text(settings)}

![repainted instances](contact_sheet.jpg)
""",
    )


def _settings(kind: str, model: Path, **own: str) -> GeneratorSettings:
    smallest, *larger = TRAINING.sides
    return GeneratorSettings.model_validate(
        {"kind": kind, "model": str(model), "size": smallest, "sizes": larger, "batch_size": 8} | SAMPLING[kind] | own
    )


def _counted(training: Corpora) -> str:
    smallest, *larger = training
    further = ", ".join(f"{len(training[side]):,} of them at {side}" for side in larger)
    return f"{len(training[smallest]):,} captioned crops at {smallest} pixels" + (f" ({further})" if further else "")


def _described(recipe: TimedRecipe, result: FitResult, batch: int = inpainting.BATCH) -> str:
    steps = int(result.curve["step"].iloc[-1])
    return (
        f"{steps} steps of {batch} crops or as many pixels of larger\n  ones, mirrored half of the time, "
        f"velocity prediction, zero terminal SNR, min-SNR weights, AdamW, learning rate\n  {recipe.learning_rate:g}, "
        f"moving average of the weights, {result.seconds / 60:.0f} minutes"
    )
