"""Label tables: the meaning of the values of an id map, and the numbering of instances."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from instsynth_dagster.errors import DatasetError

LARGEST = (1 << 31) - 1
"""Largest value of an id map, which is int32."""


@dataclass(frozen=True)
class Label:
    """A row of a label table.

    Args:
        name: name in prompts and tables.
        id: value in id maps.
        has_instances: whether its objects are annotated individually.
        ignore_in_eval: whether it is void: neither right nor wrong.
        color: RGB, 0..255.
        supercategory: supercategory of a COCO category.
        source_id: id in the data set's own files; default: `id`.
    """

    name: str
    id: int
    has_instances: bool
    ignore_in_eval: bool
    color: tuple[int, int, int]
    supercategory: str | None = None
    source_id: int | None = None

    @property
    def category_id(self) -> int:
        """The id in the data set's own files."""
        return self.id if self.source_id is None else self.source_id


@dataclass(frozen=True)
class LabelTable:
    """The labels of a data set, and the coding of its id maps int32 (H, W).

    Instance `index` of a label has the value `label id * factor + index`. A value below `factor` is the label id
    itself: of a label without instances, or of a group of objects that are not annotated individually.

    Raises:
        DatasetError: a name or an id occurs twice, or the ids do not fit the coding.
    """

    labels: tuple[Label, ...]
    factor: int = 1000

    def __post_init__(self) -> None:
        for field in ("name", "id"):
            values = [getattr(label, field) for label in self.labels]
            twice = next((value for value in values if values.count(value) > 1), None)
            if twice is not None:
                raise DatasetError(f"labels: the {field} {twice!r} occurs twice")
        highest = max((label.id for label in self.labels), default=0)
        if min((label.id for label in self.labels), default=0) < 0 or highest >= self.factor:
            raise DatasetError(f"labels: ids must be 0 to {self.factor - 1}")
        if highest * self.factor + self.factor - 1 > LARGEST:
            raise DatasetError(f"labels: ids up to {highest} with {self.factor} instances each do not fit 32 bits")

    @cached_property
    def by_name(self) -> dict[str, Label]:
        """Labels by name."""
        return {label.name: label for label in self.labels}

    @cached_property
    def by_id(self) -> dict[int, Label]:
        """Labels by id."""
        return {label.id: label for label in self.labels}

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Names of the evaluated labels with instances, in order."""
        return tuple(label.name for label in self.labels if label.has_instances and not label.ignore_in_eval)

    @cached_property
    def evaluated(self) -> tuple[Label, ...]:
        """Labels that count in an evaluation, in order."""
        return tuple(label for label in self.labels if not label.ignore_in_eval)

    @cached_property
    def stuff(self) -> tuple[Label, ...]:
        """Evaluated labels without instances, in order."""
        return tuple(label for label in self.evaluated if not label.has_instances)

    @cached_property
    def thing_ids(self) -> np.ndarray:
        """Ids int64 of the labels with instances, evaluated or not."""
        return np.array([label.id for label in self.labels if label.has_instances], dtype=np.int64)

    @cached_property
    def stuff_ids(self) -> np.ndarray:
        """Ids int64 of `stuff`."""
        return np.array([label.id for label in self.stuff], dtype=np.int64)

    @cached_property
    def void_ids(self) -> np.ndarray:
        """Ids int64 of the labels that are ignored in an evaluation."""
        return np.array([label.id for label in self.labels if label.ignore_in_eval], dtype=np.int64)

    @cached_property
    def unlabeled(self) -> int:
        """The id of pixels that evaluation ignores: the first void label without instances, else 0."""
        void = [label.id for label in self.labels if label.ignore_in_eval and not label.has_instances]
        return void[0] if void else 0

    @property
    def largest(self) -> int:
        """The largest value that an id map of this table can hold."""
        return max(label.id for label in self.labels) * self.factor + self.factor - 1

    def __getitem__(self, name: str) -> Label:
        return self.by_name[name]

    def id_of(self, name: str) -> int:
        """Id of the label with a name."""
        return self.by_name[name].id

    def ids_of(self, names: Iterable[str]) -> list[int]:
        """Ids of the labels with these names, in their order."""
        return [self.by_name[name].id for name in names]

    def label_id(self, value: int) -> int:
        """Label id of a value of an id map."""
        return value // self.factor if value >= self.factor else value

    def label_of(self, value: int) -> Label:
        """Label of a value of an id map."""
        return self.by_id[self.label_id(value)]

    def instance_id(self, label_id: int, index: int) -> int:
        """The value of an instance.

        Raises:
            DatasetError: the coding has no room for it.
        """
        if not 0 <= index < self.factor:
            name = self.by_id[label_id].name
            raise DatasetError(f"{name}: an id map holds at most {self.factor} of them, here is number {index + 1}")
        return label_id * self.factor + index

    def is_instance(self, ids: np.ndarray) -> np.ndarray:
        """bool: whether each value is a single instance."""
        return ids >= self.factor

    def label_ids(self, ids: np.ndarray) -> np.ndarray:
        """int32 label ids of the values of an id map, of any shape."""
        return np.where(ids < self.factor, ids, ids // self.factor).astype(np.int32)

    def of_class(self, ids: np.ndarray, name: str) -> np.ndarray:
        """bool: whether each value is a single instance of a class."""
        return self.is_instance(ids) & (ids // self.factor == self.by_name[name].id)


def labels_digest(labels: LabelTable) -> str:
    """Digest of the parts of a label table that id maps depend on; colours are left out."""
    rows = [[label.name, label.id, label.has_instances, label.ignore_in_eval] for label in labels.labels]
    return hashlib.sha256(json.dumps([labels.factor, rows]).encode()).hexdigest()
