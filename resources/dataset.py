"""The data set as a resource, read only."""

from __future__ import annotations

from instsynth_dagster.data.dataset import DataSet as Dataset
from instsynth_dagster.data.opening import open_dataset

__all__ = ["Dataset", "open_dataset"]
