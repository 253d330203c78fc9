"""Model cards: what a mini checkpoint is, what it was trained on and what was measured."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from instsynth_dagster.artifacts.files import write_atomically
from instsynth_dagster.models.digests import SUMS, write_sums
from instsynth_dagster.segmenters.contract import FitResult

CARD = "README.md"


def is_complete(folder: Path) -> bool:
    """Whether a checkpoint is there; its card is written last."""
    return (folder / CARD).exists()


def write_card(folder: Path, result: FitResult, text: str) -> None:
    """README.md and loss.png beside the weights."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 2.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(result.curve["step"], result.curve["loss"].ewm(span=20).mean(), color="#3b6ea5")
    axes.set(xlabel="step", ylabel="loss")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(folder / "loss.png", dpi=100)
    limits = "\n- **Limits**: knows nothing but the drawn streets of this project.\n- **Licence**: Apache-2.0."
    command = "\n\nMade by `python -m instsynth_dagster.demo.pretraining`.\n\n![loss](loss.png)\n"
    (folder / CARD).write_text(text.rstrip() + limits + command)


@contextmanager
def listed_anew(checkpoints: Path) -> Iterator[None]:
    """Around trainings: SHA256SUMS forgets the checkpoints that are not there yet and lists all of them at the end."""
    _keep_listed(checkpoints, lambda name: is_complete(checkpoints / name))
    yield
    write_sums(checkpoints)


def unlist(folder: Path) -> None:
    """Strike a checkpoint from the SHA256SUMS beside it, because its files are about to change: what is listed is
    loaded only as it was."""
    _keep_listed(folder.parent, lambda name: name != folder.name)


def _keep_listed(checkpoints: Path, kept: Callable[[str], bool]) -> None:
    sums = checkpoints / SUMS
    if sums.exists():
        lines = sums.read_text().splitlines(keepends=True)
        write_atomically(sums, "".join(line for line in lines if kept(line[66:].split("/")[0])).encode())


def link_equal(folder: Path, original: Path) -> None:
    """Replace a folder by a relative link to another one with the same files.

    Raises:
        ValueError: they differ.
    """
    names = sorted(path.name for path in original.iterdir())
    if sorted(path.name for path in folder.iterdir()) != names or any(
        (folder / name).read_bytes() != (original / name).read_bytes() for name in names
    ):
        raise ValueError(f"{folder} is not equal to {original}")
    if not folder.is_symlink():
        shutil.rmtree(folder)
        folder.symlink_to(os.path.relpath(original, folder.parent))
