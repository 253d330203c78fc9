"""Images that show the same picture although their bytes differ: re-encoded, resized, brightened, mirrored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import pandas as pd

BITS = 256
MAX_DISTANCE = 40
"""Hamming distance, of `BITS` bits. On the demo city, copies (JPEG at quality 40, half the size, brighter, noisy, cut
by 2 %) lie within 38 of their source, and different frames, of the same street style, 90 or more apart."""
HASHES = ("perceptual_hash", "mirrored_hash")
"""Columns of the frame table."""
_SIZE = (64, 32)
_CHUNK = 256


def perceptual_hash(image: np.ndarray) -> str:
    """64 hexadecimal digits: signs of the 256 lowest frequencies of the cosine transform, relative to their median.

    Args:
        image: uint8 (H, W, 3) RGB.
    """
    gray = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), _SIZE, interpolation=cv2.INTER_AREA)
    lowest = cv2.dct(gray.astype(np.float32))[:16, :17].ravel()[1 : BITS + 1]  # without the mean
    return np.packbits(lowest > np.median(lowest)).tobytes().hex()


def mirrored_hash(image: np.ndarray) -> str:
    """`perceptual_hash` of the horizontally mirrored image."""
    return perceptual_hash(np.ascontiguousarray(image[:, ::-1]))


def near_duplicates(ours: Sequence[str], theirs: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Index pairs of hashes that differ in at most `MAX_DISTANCE` bits; an image of a single colour has no
    duplicates.
    """
    if not len(ours) or not len(theirs):
        return
    left, right = _bits(ours), _bits(theirs)
    for start in range(0, len(left), _CHUNK):
        some = left[start : start + _CHUNK]
        distance = np.bitwise_count(some[:, None] ^ right[None]).sum(-1)
        comparable = np.asarray(some.any(1))[:, None] & np.asarray(right.any(1))
        for row, column in np.argwhere((distance <= MAX_DISTANCE) & comparable).tolist():
            yield start + row, column


def _bits(hashes: Sequence[str]) -> np.ndarray:
    """uint64 (N, 4)."""
    return np.frombuffer(bytes.fromhex("".join(hashes)), dtype=np.uint64).reshape(len(hashes), -1)


def leaked_frames(frames: pd.DataFrame) -> list[str]:
    """Frames of other splits that are also in train, byte for byte or as a near duplicate.

    Args:
        frames: columns frame_id, image_sha256, split and HASHES.
    """
    trains = frames["split"] == "train"
    train, held_out = (frames[chosen].reset_index(drop=True) for chosen in (trains, ~trains))
    copies = held_out.merge(train, on="image_sha256", suffixes=("", "_train"))
    found = dict.fromkeys(zip(copies["frame_id"], copies["frame_id_train"], strict=True), "is")
    for column, how in (("perceptual_hash", "is nearly"), ("mirrored_hash", "mirrored is nearly")):
        for row, other in near_duplicates(held_out[column].tolist(), train["perceptual_hash"].tolist()):
            found.setdefault((held_out["frame_id"][row], train["frame_id"][other]), how)
    splits = dict(zip(held_out["frame_id"], held_out["split"], strict=True))
    return [f"{frame_id} ({splits[frame_id]}) {how} {other} (train)" for (frame_id, other), how in found.items()]
