"""A stand-in for the demo city's renderer, and a progress bar that shows nothing."""

from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np


def toy_scene(seed, width, height, class_weights=None):
    """A green car with a hole, half hidden by a red person, and a crowd that has no attributes."""
    x = seed % 40
    ids = np.full((height, width), 7, dtype=np.int32)
    ids[20:60, 10 + x : 90 + x] = 26000
    ids[30:40, 20 + x : 30 + x] = 7
    ids[25:75, 60 + x : 80 + x] = 24000
    ids[100:120, 100:140] = 24
    image = np.zeros((height, width, 3), dtype=np.uint8)
    image[ids == 26000] = (0, 200, 0)
    image[ids == 24000] = (200, 0, 0)
    about = {26000: ("car", "green"), 24000: ("person", "red")}
    return SimpleNamespace(
        image=image, ids=ids, attributes={v: SimpleNamespace(class_name=c, color=k) for v, (c, k) in about.items()}
    )


@contextmanager
def silent_bar(title, total):
    yield lambda done, total, *loss: None
