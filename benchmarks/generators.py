"""Crops per second of each generator of a params file: batch 1, batch N, and the official way, in one run.

The official way is batch 1 with the prompt encoded for every image. All three get the same crops, masks and seeds.

python benchmarks/generators.py --params profiles/paper_demo.yaml --crops 16
python benchmarks/generators.py --real-size --crops 16     # the paper's architectures, random weights; needs a GPU
python benchmarks/generators.py --real-size --small --device cpu --crops 2 --dtype float32    # that it runs at all
"""

from __future__ import annotations

import argparse
import resource
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch
from real_sizes import PAPER, few_steps, real_size

from instsynth_dagster.settings import GeneratorSettings, load_settings
from instsynth_dagster.synthesis.generators import load_generator
from instsynth_dagster.synthesis.generators.base import Generator
from instsynth_dagster.synthesis.generators.pipeline import PipelineGenerator

Batch = tuple[np.ndarray, np.ndarray, list[str], list[str], list[int]]


def random_crops(count: int, side: int) -> Batch:
    """Noise crops with a box to fill, all with the same prompt."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    masks = np.zeros((count, side, side), bool)
    masks[:, side // 4 : -side // 4, side // 4 : -side // 4] = True
    return images, masks, ["a photo of a red car"] * count, ["car"] * count, list(range(count))


def crops_per_second(generator: Generator, crops: Batch, batch: int, forget: bool = False) -> float:
    """Speed over all crops in batches of `batch`; `forget` encodes the prompt again for every batch."""
    _fill(generator, crops, 0, batch)
    _wait()
    started = time.perf_counter()
    for start in range(0, len(crops[0]), batch):
        if forget and isinstance(generator, PipelineGenerator):
            generator.forget()
        _fill(generator, crops, start, batch)
    _wait()
    return len(crops[0]) / (time.perf_counter() - started)


def _fill(generator: Generator, crops: Sequence[Any], start: int, batch: int) -> None:
    generator.fill(*(column[start : start + batch] for column in crops))


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def measure(name: str, settings: GeneratorSettings, count: int, device: str) -> dict[str, Any]:
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    generator = load_generator(name, settings, device)
    crops = random_crops(count, settings.size)
    official = crops_per_second(generator, crops, 1, forget=True)
    single = crops_per_second(generator, crops, 1)
    batched = crops_per_second(generator, crops, settings.batch_size)
    if device == "cuda":
        peak = torch.cuda.max_memory_allocated()
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "generator": name,
        "size": settings.size,
        "steps": settings.steps,
        "official way": official,
        "batch 1": single,
        "batch size": settings.batch_size,
        "batched": batched,
        "batched / batch 1": batched / single,
        "batched / official": batched / official,
        "peak MiB": peak / 2**20,
    }


def _given(arguments: argparse.Namespace) -> dict[str, int]:
    return {name: getattr(arguments, name) for name in ("size", "steps") if getattr(arguments, name)}


def _of_params(arguments: argparse.Namespace) -> Iterator[tuple[str, GeneratorSettings]]:
    for name, settings in load_settings(arguments.params).generators.items():
        yield name, settings.model_copy(update=_given(arguments))


def _real_sizes(arguments: argparse.Namespace, folder: Path) -> Iterator[tuple[str, GeneratorSettings]]:
    given = _given(arguments)
    for kind in PAPER:
        settings = real_size(kind, folder, arguments.dtype, arguments.small)
        settings = settings.model_copy(update=given | {"compile": arguments.compile})
        yield kind, settings
        if kind == "blendeddiff":
            yield "blendeddiff, 4 LCM steps", few_steps(settings)
        shutil.rmtree(folder / kind)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--crops", type=int, default=16)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--real-size", action="store_true", help="the paper's three architectures at random weights")
    parser.add_argument("--small", action="store_true", help="with --real-size: narrow ones, to see that they run")
    parser.add_argument("--dtype", default="bfloat16", help="with --real-size")
    parser.add_argument("--compile", action="store_true", help="with --real-size")
    parser.add_argument("--size", type=int, help="of crops, instead of the paper's or the params file's")
    parser.add_argument("--steps", type=int, help="of denoising, likewise")
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        generators = _real_sizes(arguments, Path(folder)) if arguments.real_size else _of_params(arguments)
        rows = [measure(name, settings, arguments.crops, arguments.device) for name, settings in generators]
    card = torch.cuda.get_device_name() if arguments.device == "cuda" else f"{torch.get_num_threads()} CPU threads"
    print(f"crops per second, {arguments.crops} crops on {card}")
    print(pd.DataFrame(rows).set_index("generator").round(2).T.to_string())


if __name__ == "__main__":
    main()
