"""The three tasks of OneFormer: their tokens, the targets that an id map gives for each, and their texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.segmenters.shared.augmentation import Targets, collate

SEMANTIC, INSTANCE, PANOPTIC = "semantic", "instance", "panoptic"
TASKS = (SEMANTIC, INSTANCE, PANOPTIC)
"""Tasks, drawn with equal probability, as in the Cityscapes configurations."""


def all_classes(things: Sequence[str], labels: LabelTable) -> tuple[str, ...]:
    """Classes of the class head: the evaluated stuff of the data set, then the things."""
    return (*(label.name for label in labels.stuff), *things)


def task_text(task: str) -> str:
    """The text of a task's token."""
    return f"the task is {task}"


def task_targets(things: Sequence[str], labels: LabelTable) -> Targets:
    """`Targets` that draw a task and give its segments.

    Panoptic: one mask for each thing and each stuff class; instance: things only; semantic: one mask for each class.
    Groups (crowds) are left out of every task.
    """
    classes = all_classes(things, labels)

    def targets(ids: Tensor) -> dict[str, Any]:
        task = TASKS[int(torch.randint(len(TASKS), ()))]
        masks, indices = segments(ids, classes, task, labels)
        return {"mask_labels": masks, "class_labels": indices, "task": task}

    return targets


def segments(ids: Tensor, classes: Sequence[str], task: str, labels: LabelTable) -> tuple[Tensor, Tensor]:
    """Masks float32 (N, H, W) of 0 and 1 and class indices int64 (N,) of an id map int (H, W) for a task."""
    index_of = {labels.id_of(name): index for index, name in enumerate(classes)}
    things = set(labels.thing_ids.tolist())
    groups: dict[tuple[int, int], list[int]] = {}
    for value in ids.unique().tolist():
        label = labels.label_id(value)
        is_thing = label in things
        if label not in index_of or is_thing != (value >= labels.factor) or (task == INSTANCE and not is_thing):
            continue
        segment = value if is_thing and task != SEMANTIC else label
        groups.setdefault((index_of[label], segment), []).append(value)
    masks = [torch.isin(ids, torch.tensor(values, dtype=ids.dtype)) for values in groups.values()]
    stacked = torch.stack(masks) if masks else torch.zeros((0, *ids.shape), dtype=torch.bool)
    return stacked.float(), torch.tensor([index for index, _ in groups], dtype=torch.int64)


def texts(indices: Sequence[int], task: str, classes: Sequence[str], length: int) -> list[str]:
    """The text list of one image: "a photo with a <class>" for each segment, then "a <task> photo" up to `length`.

    It depends on this image's segments alone; the library's processor carries classes over from earlier images of the
    batch.
    """
    named = [f"a photo with a {classes[index]}" for index in indices[:length]]
    return named + [f"a {task} photo"] * (length - len(named))


class TaskBatches:
    """Makes a batch of pixels, targets, task tokens and, where `num_texts` is not 0, the tokens of each text list.

    Args:
        tokenizer: of transformers.
        classes: classes of the class head.
        task_length, text_length: numbers of tokens, padded with zeros.
    """

    def __init__(
        self, tokenizer: Any, classes: Sequence[str], task_length: int, text_length: int, num_texts: int
    ) -> None:
        self._classes, self._num_texts = tuple(classes), num_texts
        self._tokenizer, self._lengths = tokenizer, (task_length, text_length)
        self._known: dict[tuple[str, int], Tensor] = {}

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        """A batch of items of `TrainingDraws` with `task_targets`."""
        batch = collate(items)
        batch["task_inputs"] = torch.stack([self.task(item["task"]) for item in items])
        if self._num_texts:
            lists = [texts(i["class_labels"].tolist(), i["task"], self._classes, self._num_texts) for i in items]
            batch["text_inputs"] = torch.stack([self._tokens(lines, self._lengths[1]) for lines in lists])
        return batch

    def task(self, task: str) -> Tensor:
        """Tokens int64 (task_length,) of a task."""
        return self._tokens([task_text(task)], self._lengths[0])[0]

    def _tokens(self, lines: Sequence[str], length: int) -> Tensor:
        for line in set(lines):
            if (line, length) not in self._known:
                found = self._tokenizer(line, truncation=True, max_length=length)["input_ids"]
                self._known[line, length] = torch.tensor(found + [0] * (length - len(found)))
        return torch.stack([self._known[line, length] for line in lines])
