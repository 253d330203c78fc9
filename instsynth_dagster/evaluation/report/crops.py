"""Repainted crops with their verdicts: a sample of every class and every reason, and the counts of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
import pandas as pd

from instsynth_dagster.artifacts.store import Store
from instsynth_dagster.settings import GateSettings
from instsynth_dagster.synthesis.gates import MASK_IOU, SCORES, Sources, pasted_crops, rejection, stored_scores

ACCEPTED = "accepted"
_MOST = 128
"""Most crops of a generator, unless every class and reason needs one."""
_OF_ACCEPTED, _OF_REASON = 6, 4
"""Most crops of a class that passed, and that were rejected for one reason."""


@dataclass(frozen=True)
class Crop:
    """A repainted crop uint8 (S, S, 3) with its source uint8 (S, S, 3); `reason` is why it was rejected, "" if it
    passed.
    """

    generator: str
    instance_id: str
    replica: int
    class_name: str
    prompt: str
    reason: str
    source: np.ndarray
    painted: np.ndarray

    @property
    def verdict(self) -> str:
        """Accepted, or the gate that rejected it."""
        return gate_of(self.reason)


@dataclass(frozen=True)
class CropGallery:
    """The sampled crops of one generator, and `counts` of all: a row for each class, a column for each verdict."""

    generator: str
    crops: Sequence[Crop]
    counts: pd.DataFrame


def gate_of(reason: str) -> str:
    """The gate that caused a rejection, without values: "class_margin -0.02 below 0" -> "class_margin"."""
    first = reason.partition(" ")[0]
    return first if first in (*SCORES, MASK_IOU) else reason or ACCEPTED


def crop_gallery(
    store: Store, generator: str, partitions: Sequence[str], judged: Sequence[str], gates: GateSettings
) -> CropGallery:
    """Crops of a generator for display, picked class by class in the order of the partitions.

    Args:
        partitions: partitions of `<generator>/inpainted_crops`, `<city>|<class>`.
        judged: those of `SCORE_ASSETS` that exist for the generator; without any only failed crops are rejected.
    """
    counts: Counter[tuple[str, str]] = Counter()
    classes = dict.fromkeys(partition.split("|")[1] for partition in partitions)
    share = _MOST / max(1, len(classes)) / (_OF_ACCEPTED + 2 * _OF_REASON)
    accepted, rejected = (max(1, min(most, ceil(share * most))) for most in (_OF_ACCEPTED, _OF_REASON))
    crops: list[Crop] = []
    for partition in partitions:
        verdicts = _verdicts(store, generator, partition, judged, gates)
        wanted = []
        for row in verdicts.itertuples():
            kind = (row.class_name, gate_of(row.reason))
            counts[kind] += 1
            wanted.append(counts[kind] <= (rejected if row.reason else accepted))
        if any(wanted):
            crops += _shown(store, generator, partition, verdicts[wanted])
    in_order = {name: number for number, name in enumerate(classes)}
    crops.sort(key=lambda crop: (in_order[crop.class_name], crop.verdict != ACCEPTED))
    return CropGallery(generator, crops, _table(counts, list(classes)))


def _verdicts(store: Store, generator: str, partition: str, judged: Sequence[str], gates: GateSettings) -> pd.DataFrame:
    """Crops of a partition with the `reason` of their rejection; pictures are read on demand."""
    crops = store.read_lazily(f"{generator}/inpainted_crops", partition)
    rows, bounds = crops, GateSettings()
    if judged and len(crops):
        scores = stored_scores(store, generator, partition, judged).drop(columns="failure", errors="ignore")
        rows, bounds = crops.merge(scores, on=["instance_id", "replica"], validate="one_to_one", sort=False), gates
    return rows.assign(reason=[rejection(row, bounds) for row in rows.to_dict("records")])


def _shown(store: Store, generator: str, partition: str, rows: pd.DataFrame) -> Iterator[Crop]:
    sources = Sources(store.read_lazily("selected_instances", partition))
    for row, (painted, _, source) in zip(rows.itertuples(), pasted_crops(rows, sources), strict=True):
        yield Crop(
            generator=generator,
            instance_id=row.instance_id,
            replica=int(row.replica),
            class_name=row.class_name,
            prompt=row.prompt,
            reason=row.reason,
            source=source,
            painted=painted,
        )


def _table(counts: Counter[tuple[str, str]], classes: Sequence[str]) -> pd.DataFrame:
    """Columns class_name, crops, accepted, and each gate that rejected something; the last row is the total."""
    gates = sorted({verdict for _, verdict in counts if verdict != ACCEPTED})
    rows = [
        {
            "class_name": name,
            "crops": sum(number for (of, _), number in counts.items() if of == name),
            **{verdict: counts[name, verdict] for verdict in (ACCEPTED, *gates)},
        }
        for name in classes
    ]
    table = pd.DataFrame(rows, columns=["class_name", "crops", ACCEPTED, *gates])
    total = table.drop(columns="class_name").sum().astype(int).to_dict() | {"class_name": "total"}
    return pd.concat([table, pd.DataFrame([total])], ignore_index=True)[list(table)]
