"""Images that show the same picture although their bytes differ: re-encoded, resized, brightened, mirrored."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import pandas as pd

BITS = 256
MAX_DISTANCE = 40
"""Hamming distance, of `BITS` bits. On the demo city, copies (JPEG at quality 40, half the size, brighter, noisy, cut
by 2 %) lie within 38 of their source, and different frames, of the same street style, 90 or more apart."""
HASHES = ("perceptual_hash", "mirrored_hash")
"""Columns of the frame table."""
_NEARLY: tuple[tuple[str, Literal["is nearly", "mirrored is nearly"]], ...] = (
    ("perceptual_hash", "is nearly"),
    ("mirrored_hash", "mirrored is nearly"),
)
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


@dataclass(frozen=True)
class Leak:
    """A val or test frame that is also a train frame; `how` states the kind of match."""

    frame_id: str
    split: str
    how: Literal["is", "is nearly", "mirrored is nearly"]
    train_id: str

    @property
    def exact(self) -> bool:
        """Whether the files are byte for byte the same."""
        return self.how == "is"


_NAMED, _LISTED = 3, 100


def leak_message(leaks: Sequence[Leak], *, may_allow: bool) -> str:
    """One line that names the first leaks and the setting that resolves all of them.

    Args:
        may_allow: whether `dataset.near_duplicates` accepts near duplicates.
    """
    named = [f"{leak.frame_id} ({leak.split}) {leak.how} {leak.train_id} (train)" for leak in leaks[:_NAMED]]
    if len(leaks) > _NAMED:
        named.append(f"and {len(leaks) - _NAMED} more")
    train_ids = list(dict.fromkeys(leak.train_id for leak in leaks))
    ids = json.dumps(train_ids[:_LISTED], ensure_ascii=False)
    first = f" (the first {_LISTED} of {len(train_ids)})" if len(train_ids) > _LISTED else ""
    allow = ""
    if may_allow and not any(leak.exact for leak in leaks):
        allow = "; or, if these are different pictures to you, set dataset.near_duplicates to allow"
    return f"{', '.join(named)}; leave the train frames out with dataset.leave_out: {ids}{first}{allow}"


def leaked_frames(frames: pd.DataFrame) -> list[Leak]:
    """Frames of other splits that are also in train, byte for byte or as a near duplicate.

    Args:
        frames: columns frame_id, image_sha256, split and HASHES.
    """
    trains = frames["split"] == "train"
    train, held_out = (frames[chosen].reset_index(drop=True) for chosen in (trains, ~trains))
    copies = held_out.merge(train, on="image_sha256", suffixes=("", "_train"))
    found: dict[tuple[str, str], Literal["is", "is nearly", "mirrored is nearly"]] = dict.fromkeys(
        zip(copies["frame_id"], copies["frame_id_train"], strict=True), "is"
    )
    for column, how in _NEARLY:
        for row, other in near_duplicates(held_out[column].tolist(), train["perceptual_hash"].tolist()):
            found.setdefault((held_out["frame_id"][row], train["frame_id"][other]), how)
    splits = dict(zip(held_out["frame_id"], held_out["split"], strict=True))
    return [Leak(frame_id, splits[frame_id], how, other) for (frame_id, other), how in found.items()]
