"""Image features by content, shared between assets."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

_BATCH = 16
_WAIT = 60.0


class FeatureCache:
    """float32 features in one SQLite file, which several processes may share and which may be deleted at any time."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def features(
        self, extractor: str, images: Sequence[np.ndarray], extract: Callable[[list[np.ndarray]], np.ndarray]
    ) -> np.ndarray:
        """Features float32 (N, D) of uint8 (H, W, 3) images.

        Args:
            extractor: identity of the model; features of another model are not used.
            extract: computes float32 (16, D) of a list of 16 images. It always gets 16, the last one repeated where
                needed, so that an image's features are bit-identical whatever images are computed with it.
        """
        keys = [_key(extractor, image) for image in images]
        with closing(self._connect()) as connection:
            known = {key: value for key in set(keys) if (value := _read(connection, key)) is not None}
            new = {key: image for key, image in zip(keys, images, strict=True) if key not in known}
            made = dict(zip(new, _extracted(list(new.values()), extract), strict=True))
            known |= made
            with connection:
                connection.executemany(
                    "INSERT OR REPLACE INTO features VALUES (?, ?)",
                    [(key, value.tobytes()) for key, value in made.items()],
                )
        return np.stack([known[key] for key in keys])

    def _connect(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self._path, timeout=_WAIT)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:  # damaged: its features are computed again
            connection.close()
            self._path.unlink()
            return self._connect()
        connection.execute("CREATE TABLE IF NOT EXISTS features (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID")
        return connection


def _key(extractor: str, image: np.ndarray) -> bytes:
    return hashlib.sha256(f"{extractor}{image.shape}".encode() + np.ascontiguousarray(image).tobytes()).digest()


def _read(connection: sqlite3.Connection, key: bytes) -> np.ndarray | None:
    row = connection.execute("SELECT value FROM features WHERE key = ?", (key,)).fetchone()
    return np.frombuffer(row[0], np.float32) if row else None


def _extracted(images: list[np.ndarray], extract: Callable[[list[np.ndarray]], np.ndarray]) -> list[np.ndarray]:
    features: list[np.ndarray] = []
    for start in range(0, len(images), _BATCH):
        batch = images[start : start + _BATCH]
        padded = [*batch, *[batch[-1]] * (_BATCH - len(batch))]
        features += list(extract(padded)[: len(batch)].astype(np.float32))
    return features
