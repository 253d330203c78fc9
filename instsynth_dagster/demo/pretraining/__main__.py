"""Trains the mini checkpoints: python -m instsynth_dagster.demo.pretraining --help"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from instsynth_dagster.demo.pretraining.cards import listed_anew
from instsynth_dagster.demo.pretraining.denoiser import pretrain_decoder
from instsynth_dagster.demo.pretraining.generative import pretrain_generative
from instsynth_dagster.demo.pretraining.vision import pretrain_vision
from instsynth_dagster.segmenters.contract import Progress

_FAMILIES = {"generative": pretrain_generative, "vision": pretrain_vision, "decoder": pretrain_decoder}
"""In this order: mini-oneformer reads with mini-clip's tokenizer, mini-generative with mini-gligen's features."""


@contextmanager
def _bar(title: str, total: int) -> Iterator[Progress]:
    with tqdm(total=total, desc=title, mininterval=5.0) as bar:

        def progress(done: int, _: int) -> None:
            bar.update(done - bar.n)

        yield progress


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m instsynth_dagster.demo.pretraining",
        description="Train the mini checkpoints that are missing; goes on after a kill. To train one again, delete it.",
    )
    parser.add_argument("--build", type=Path, default=Path("build/pretraining"), help="data and unfinished trainings")
    parser.add_argument("--checkpoints", type=Path, default=Path("checkpoints"), help="where the models go")
    parser.add_argument("--only", choices=_FAMILIES, help="vision: the three segmenters; decoder: mini-generative")
    arguments = parser.parse_args()
    with listed_anew(arguments.checkpoints):
        for name, pretrain in _FAMILIES.items():
            if arguments.only in (None, name):
                pretrain(arguments.build, arguments.checkpoints, _bar)


if __name__ == "__main__":
    main()
