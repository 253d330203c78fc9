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

_FAMILIES = ("generative", "vision", "decoder")
"""In this order: mini-oneformer reads with mini-clip's tokenizer, mini-generative with mini-gligen's features."""


@contextmanager
def _bar(title: str, total: int) -> Iterator[Progress]:
    with tqdm(total=total, desc=title, mininterval=5.0) as bar:

        def progress(done: int, *_: float) -> None:
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
    parser.add_argument(
        "--minutes", type=_positive, help="time for the generators together; those that are there are trained on"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda, for the generators")
    arguments = parser.parse_args()
    build, checkpoints, only = arguments.build, arguments.checkpoints, arguments.only
    if arguments.minutes:
        only = only or "generative"
    with listed_anew(checkpoints):
        if only in (None, "generative"):
            pretrain_generative(build, checkpoints, _bar, minutes=arguments.minutes, device=arguments.device)
        if only in (None, "vision"):
            pretrain_vision(build, checkpoints, _bar)
        if only in (None, "decoder"):
            pretrain_decoder(build, checkpoints, _bar)


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError("give a number of minutes above 0")
    return value


if __name__ == "__main__":
    main()
