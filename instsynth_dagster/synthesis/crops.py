"""Square crops around instances: with context, shifted inside the frame, never padded with black."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import pandas as pd

from instsynth_dagster.data.images import encode_png, resize_image
from instsynth_dagster.data.masks import decode_rle, encode_rle, mask_box
from instsynth_dagster.settings import SelectionSettings

Box = tuple[int, int, int, int]
"""xyxy in pixels, x2 and y2 exclusive."""

BACKGROUND = 128
"""Grey level that replaces the surroundings of an instance that is cut out."""

_COLUMNS = ("instance_id", "frame_id", "class_name", "value", "area", "rank", "x1", "y1", "x2", "y2")


def crop_box(box: Box, margin: float, width: int, height: int) -> Box:
    """The square around `box` with `margin` times its longer side on each side, shifted inside a width x height frame.

    Along an axis on which the square is longer than the frame, it is centred and exceeds the frame on both ends.
    """
    x1, y1, x2, y2 = box
    side = max(1, round(max(x2 - x1, y2 - y1) * (1 + 2 * margin)))

    def start(low: int, high: int, length: int) -> int:
        if side >= length:
            return (length - side) // 2
        return min(max((low + high - side) // 2, 0), length - side)

    left, top = start(x1, x2, width), start(y1, y2, height)
    return left, top, left + side, top + side


def cut_crop(image: np.ndarray, ids: np.ndarray, value: int, box: Box) -> tuple[np.ndarray, np.ndarray]:
    """Cut a crop box out of a frame.

    Args:
        image: uint8 (H, W, 3).
        ids: int32 (H, W).
        value: id of the instance whose mask is returned.
        box: a square; where it exceeds the frame, the image is reflected and the mask is False.

    Returns:
        crop uint8 (S, S, 3) and mask bool (S, S).
    """
    height, width = ids.shape
    x1, y1, x2, y2 = box
    inside = (slice(max(y1, 0), min(y2, height)), slice(max(x1, 0), min(x2, width)))
    pads = (max(-y1, 0), max(y2 - height, 0), max(-x1, 0), max(x2 - width, 0))
    mask = ids[inside] == value
    if not any(pads):
        return image[inside].copy(), mask
    border = cv2.BORDER_REFLECT_101 if min(mask.shape) > 1 else cv2.BORDER_REPLICATE
    padded = cv2.copyMakeBorder(mask.view(np.uint8), *pads, cv2.BORDER_CONSTANT, value=0)
    return cv2.copyMakeBorder(image[inside], *pads, border), padded.view(bool)


def cut_box(image: np.ndarray, row: Mapping[str, Any]) -> np.ndarray:
    """The crop of a row of `selected_instances`, cut out of another image of its frame: uint8 (H, W, 3) -> (S,
    S, 3).
    """
    return cut_crop(image, np.zeros(image.shape[:2], np.int32), 1, box_of(row, "crop_"))[0]


def box_of(row: Mapping[str, Any], prefix: str = "") -> Box:
    """The box in the columns x1, y1, x2, y2 of a row, or in those with a prefix, such as `crop_`."""
    return int(row[f"{prefix}x1"]), int(row[f"{prefix}y1"]), int(row[f"{prefix}x2"]), int(row[f"{prefix}y2"])


def mask_in_crop(row: Mapping[str, Any]) -> tuple[np.ndarray, Box]:
    """The mask of a row of `selected_instances`, bool (S, S), and the crop box that it fills."""
    box = box_of(row, "crop_")
    side = box[2] - box[0]
    return decode_rle({"size": [side, side], "counts": row["mask_counts"]}), box


def mask_in_frame(row: Mapping[str, Any], size: Sequence[int]) -> np.ndarray:
    """The mask of a row of `selected_instances` in its frame, bool (height, width) of `size`, cut off at borders."""
    mask, (x1, y1, x2, y2) = mask_in_crop(row)
    frame = np.zeros(size, bool)
    top, left, bottom, right = max(y1, 0), max(x1, 0), min(y2, size[0]), min(x2, size[1])
    frame[top:bottom, left:right] = mask[top - y1 : bottom - y1, left - x1 : right - x1]
    return frame


def cut_selected(
    image: np.ndarray, ids: np.ndarray, selected: pd.DataFrame, settings: SelectionSettings
) -> Iterator[dict[str, Any]]:
    """Rows of `selected_instances` for the chosen instances of one frame: the row of the index, crop box, crop and
    mask.
    """
    for values in zip(*(selected[name].tolist() for name in _COLUMNS), strict=True):
        # in a call of its own: a crop that is larger than its frame is not kept while its row is used
        yield _selected_row(image, ids, dict(zip(_COLUMNS, values, strict=True)), settings)


def _selected_row(
    image: np.ndarray, ids: np.ndarray, row: Mapping[str, Any], settings: SelectionSettings
) -> dict[str, Any]:
    height, width = ids.shape
    box = crop_box(box_of(row), settings.margin, width, height)
    crop_and_mask = list(cut_crop(image, ids, row["value"], box))  # each is given away as it is encoded
    counts = encode_rle(crop_and_mask.pop())["counts"]
    return {
        **row,
        **dict(zip(("crop_x1", "crop_y1", "crop_x2", "crop_y2"), box, strict=True)),
        "crop_png": encode_png(crop_and_mask.pop()),
        "mask_counts": counts,
    }


def focus(image: np.ndarray, mask: np.ndarray, margin: float = 0.1, cut_out: bool = False) -> np.ndarray:
    """The square around an instance, enlarged to the size of its crop.

    Args:
        image: uint8 (S, S, 3).
        mask: bool (S, S), not empty.
        margin: context on each side, in units of the longer side.
        cut_out: whether everything else becomes grey.

    Returns:
        uint8 (S, S, 3).
    """
    height, width = mask.shape
    x1, y1, x2, y2 = (int(np.clip(edge, 0, width)) for edge in crop_box(mask_box(mask), margin, width, height))
    if cut_out:
        image = np.where(mask[..., None], image, np.uint8(BACKGROUND))
    return resize_image(np.ascontiguousarray(image[y1:y2, x1:x2]), (width, height))
