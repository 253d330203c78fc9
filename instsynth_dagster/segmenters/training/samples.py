"""The samples of an arm: real frames from the data set, synthetic windows from the store, read one at a time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence

import numpy as np
import pandas as pd

from instsynth_dagster.artifacts.rows import Parts, StoredBytes
from instsynth_dagster.artifacts.store import Store
from instsynth_dagster.data.dataset import DataSet
from instsynth_dagster.data.images import decode_ids, decode_png
from instsynth_dagster.seeds import content_seed

FRAME, WINDOW, GROUPED, ANONYMISED = "frame", "window", "grouped", "anonymised"
"""Sources of a sample: a real frame, a synthetic window, a real frame with an id map from the store, one with an
image from the store as well."""
GROUPED_COLUMNS = ("frame_id", "image", "image_sha256", "ids_sha256", "instance_classes")
WINDOW_COLUMNS = ("frame_id", "instance_id", "source_frame", "image_sha256", "ids_sha256", "instance_classes")


def labelled_frames(frame_ids: Sequence[str], percent: int) -> set[str]:
    """The frames of a limited-label protocol: `percent` of them, at least one.

    A frame's rank depends on its name alone, so that equal frames give equal lists, and the list of a smaller share is
    a prefix of that of a larger one.
    """
    ranked = sorted(frame_ids, key=lambda frame_id: content_seed("labelled frames", frame_id))
    return set(ranked[: max(1, round(len(ranked) * percent / 100))])


def from_labelled(windows: pd.DataFrame, labelled: Collection[str]) -> pd.Series:
    """bool for each window (columns instance_id, source_frame): whether it shows labelled frames only, its own and that
    from which its instance was cut.
    """
    origin = windows["instance_id"].str.partition(":")[0] if len(windows) else windows["instance_id"]
    return windows["source_frame"].isin(labelled) & origin.isin(labelled)


def frame_samples(frames: pd.DataFrame, instances: pd.DataFrame, classes: tuple[str, ...]) -> pd.DataFrame:
    """Sample rows of real frames: location of the pixels, their digest, and the instances of each class."""
    single = instances[~instances["is_group"] & instances["class_name"].isin(classes)]
    counts = single.groupby(["frame_id", "class_name"]).size().unstack(fill_value=0)
    rows = frames[["frame_id", "image", "ids", "image_sha256", "ids_sha256"]].rename(columns={"frame_id": "sample_id"})
    rows = rows.assign(source=FRAME, partition="", row=-1)
    return _with_counts(rows, counts.reindex(frames["frame_id"]), classes)


def anonymised_samples(samples: pd.DataFrame, stored: pd.DataFrame, partition: str) -> pd.DataFrame:
    """Sample rows of real frames (`frame_samples`) with their anonymised images in a partition of `anonymised/frames`;
    the index of `stored` (frame_id, image_sha256) is their row there.
    """
    rows = stored.reset_index(names="row").set_index("frame_id").loc[samples["sample_id"]]
    return samples.assign(
        image="",
        ids="",
        source=ANONYMISED,
        partition=partition,
        row=rows["row"].to_numpy(),
        image_sha256=rows["image_sha256"].to_numpy(),
    )


def grouped_samples(rows: pd.DataFrame, partition: str, classes: tuple[str, ...]) -> pd.DataFrame:
    """Sample rows of a partition of `instances_from_semantics`; the index of `rows` is their row there."""
    counts = pd.DataFrame([pd.Series(names).value_counts() for names in rows["instance_classes"]])
    found = rows[["frame_id", "image", "image_sha256", "ids_sha256"]].rename(columns={"frame_id": "sample_id"})
    found = found.assign(ids="", source=GROUPED, partition=partition, row=rows.index)
    return _with_counts(found, counts, classes)


def window_samples(windows: pd.DataFrame, partition: str, classes: tuple[str, ...]) -> pd.DataFrame:
    """Sample rows of synthetic windows (columns WINDOW_COLUMNS) of a partition; their index is their row there."""
    counts = pd.DataFrame([pd.Series(names).value_counts() for names in windows["instance_classes"]])
    rows = windows[["frame_id", "image_sha256", "ids_sha256"]].rename(columns={"frame_id": "sample_id"})
    rows = rows.assign(image="", ids="", source=WINDOW, partition=partition, row=windows.index)
    return _with_counts(rows, counts, classes)


def _with_counts(rows: pd.DataFrame, counts: pd.DataFrame, classes: tuple[str, ...]) -> pd.DataFrame:
    counts = counts.reindex(columns=list(classes)).fillna(0).astype(int).add_prefix("instances_")
    return pd.concat([rows.reset_index(drop=True), counts.reset_index(drop=True)], axis=1)


CACHE_BYTES = 256 << 20
"""Bytes of decoded samples that a data set keeps: all of a small one, a negligible share of a large one."""

Sample = tuple[np.ndarray, np.ndarray]


class _RecentSamples:
    """Samples by index; the least recently used one is dropped first."""

    def __init__(self, limit: int) -> None:
        self._limit, self._held = limit, 0
        self._samples: OrderedDict[int, Sample] = OrderedDict()

    def get(self, index: int, read: Callable[[int], Sample]) -> Sample:
        if index in self._samples:
            self._samples.move_to_end(index)
            return self._samples[index]
        sample = self._samples[index] = read(index)
        self._held += _bytes(sample)
        while self._held > self._limit:
            self._held -= _bytes(self._samples.popitem(last=False)[1])
        return sample


def _bytes(sample: Sample) -> int:
    return sum(array.nbytes for array in sample)


class ArmDataset:
    """Map-style data set of a training set's rows: index -> (image uint8 (H, W, 3), ids int32 (H, W)).

    Windows are read from their Parquet row group, and at most `CACHE_BYTES` are kept, so that memory does not grow with
    the arm. `classes_in` bool (N, C) gives the classes of each sample. Samples are shared and must not be modified.
    """

    def __init__(
        self,
        rows: pd.DataFrame,
        data: DataSet,
        store: Store,
        windows_asset: str | None,
        labels_asset: str | None = None,
    ) -> None:
        """The data set of `rows`; `labels_asset` holds other id maps (ids_png) for the windows, in the same partitions
        and rows.
        """
        self._rows = rows.to_dict("records")
        self._data, self._store, self.labels = data, store, data.labels
        self._windows, self._labels = windows_asset, labels_asset or windows_asset
        self._recent = _RecentSamples(CACHE_BYTES)
        self._parts: dict[tuple[str, str], Parts] = {}
        self.is_synthetic = (rows["source"] == WINDOW).to_numpy()
        self.classes_in = rows.filter(like="instances_").to_numpy() > 0

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Sample:
        return self._recent.get(index, self._decoded)

    def _decoded(self, index: int) -> Sample:
        row = self._rows[index]
        if row["source"] == FRAME:
            return self._data.image_and_ids(row["sample_id"])
        if row["source"] == GROUPED:
            ids = decode_ids(self._read(str(self._labels), row["partition"], row["row"], "ids_png"))
            return self._data.image_of(row["sample_id"]), ids
        image = decode_png(self._read(str(self._windows), row["partition"], row["row"], "image_png"))
        return image, decode_ids(self._read(str(self._labels), row["partition"], row["row"], "ids_png"))

    def _read(self, asset: str, partition: str, row: int, column: str) -> StoredBytes:
        if (asset, partition) not in self._parts:
            self._parts[asset, partition] = self._store.parts(asset, partition)
        return self._parts[asset, partition].stored_bytes(row, column)
