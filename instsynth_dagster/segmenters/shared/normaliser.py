"""What mask losses are divided by, right with several processes too."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, distributed


def masks_per_process(class_labels: Sequence[Tensor], device: torch.device) -> Tensor:
    """Masks of the whole batch over the number of processes, float32 (), at least 1.

    transformers takes the mean over processes and then divides by their number again, which doubles the mask losses of
    two processes.
    """
    count = torch.tensor(float(sum(len(labels) for labels in class_labels)), device=device)
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(count)
        count /= distributed.get_world_size()
    return count.clamp(min=1)
