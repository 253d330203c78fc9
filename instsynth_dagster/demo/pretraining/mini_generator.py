"""The training that the mini generators have in common; each of them adds its network, its loss and its card."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from instsynth_dagster.demo.pretraining.cards import unlist
from instsynth_dagster.demo.pretraining.corpus import Corpus
from instsynth_dagster.demo.pretraining.latents import EncodedCrops, Foundations
from instsynth_dagster.demo.pretraining.timed import TimedRecipe, train_within
from instsynth_dagster.seeds import content_seed
from instsynth_dagster.segmenters.contract import FitResult, Progress
from instsynth_dagster.segmenters.training.loop import isolated_random_state

Corpora = Mapping[int, Corpus]
"""A corpus by side in pixels, the smallest side first."""


@dataclass(frozen=True)
class CardFacts:
    """What a model card says of a finished training.

    data, training: what it was trained on and how, as parts of sentences; judged: a sentence of figures for each kind
    of generator that the model serves; folder: the checkpoint; held_out: the crops it was judged on.
    """

    data: str
    training: str
    judged: Mapping[str, str]
    folder: Path
    held_out: Corpora


class MiniGenerator(ABC):
    """A mini generator in training.

    name: of the checkpoint's folder; kinds: of generators that it serves; recipe: how long it is trained, and how;
    batch: crops of the smallest size in a batch; seed: of its first weights and of all draws.
    """

    name: ClassVar[str]
    kinds: ClassVar[tuple[str, ...]]
    recipe: ClassVar[TimedRecipe]
    batch: ClassVar[int]
    seed: ClassVar[int]

    @abstractmethod
    def prepare(self, side: int, inpainting: Path, start: Path | None) -> tuple[nn.Module, nn.Module]:
        """The network to train, float32, and the model that computes its "loss" from a batch.

        Args:
            side: the smallest width of the crops in pixels.
            inpainting: the folder of mini-sd-inpaint, which the other mini generators grow from.
            start: a checkpoint of this generator whose weights to start from, as far as they fit; None for fresh ones.
        """

    def batches(self, corpora: Corpora, crops: EncodedCrops) -> Callable[[int], dict[str, Tensor]]:
        """Batch number 0, 1, 2, ...: what the model takes, by name."""
        return crops

    @abstractmethod
    def save(self, network: Any, foundations: Foundations, out: Path, inpainting: Path) -> None:
        """Write the trained network, fp16, as the `from_pretrained` folder `out`."""

    def settings(self, folder: Path, inpainting: Path) -> dict[str, str]:
        """Which settings of a generator name the finished checkpoint in `folder`."""
        return {"model": str(folder)}

    @abstractmethod
    def card(self, facts: CardFacts) -> str:
        """The model card in Markdown, up to its pictures."""


def train_generator(
    generator: MiniGenerator,
    corpora: Corpora,
    foundations: Foundations,
    inpainting: Path,
    *,
    out: Path,
    latents: Path,
    scratch: Path,
    start: Path | None = None,
    recipe: TimedRecipe | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> FitResult:
    """Train a mini generator and write it as a `from_pretrained` folder.

    Args:
        inpainting: the folder of mini-sd-inpaint.
        latents: folder for the encoded corpus, shared by trainings.
        scratch: the state of an earlier call, from which this one goes on.
        start: see `MiniGenerator.prepare`.
        recipe: the generator's own by default.
    """
    with isolated_random_state():
        torch.manual_seed(content_seed(generator.seed, generator.name))
        network, model = generator.prepare(min(corpora), inpainting, start)
    crops = EncodedCrops(
        corpora, foundations, latents=latents, area=generator.batch, seed=generator.seed, device=device
    )
    result = train_within(
        model,
        network,
        generator.batches(corpora, crops),
        recipe or generator.recipe,
        out=out,
        scratch=scratch,
        seed=generator.seed,
        device=device,
        progress=progress,
    )
    unlist(out)
    generator.save(network.cpu().eval(), foundations, out, inpainting)
    return result
