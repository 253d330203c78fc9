"""The store as the body of an asset sees it: only the partitions that its declaration names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from instsynth_dagster.artifacts.manifest import Manifest
from instsynth_dagster.artifacts.store import Store
from instsynth_dagster.errors import Reader, UndeclaredRead


class DeclaredStore(Store):
    """A store that reads the declared partitions only; every read goes through a manifest.

    Raises:
        UndeclaredRead: on reading an undeclared partition, and on writing other than through the partition's own
            writer.
    """

    def __init__(self, store: Store, reader: Reader, declared: Iterable[tuple[str, str]]) -> None:
        """A view of a store; `declared` holds (asset, partition) in the order in which they are to be read."""
        vars(self).update(vars(store))  # the same storage and the same record of damaged files
        self._reader = reader
        self._partitions: dict[str, dict[str, None]] = {}
        for asset, partition in declared:
            self._partitions.setdefault(asset, {})[partition] = None

    def address(self) -> dict[str, Any]:
        """JSON values from which another process opens the same view (`at`)."""
        refs = [[asset, partition] for asset, partitions in self._partitions.items() for partition in partitions]
        return {"root": self.root, "cache": str(self.cache), "reader": asdict(self._reader), "declared": refs}

    @classmethod
    def at(cls, address: dict[str, Any]) -> DeclaredStore:
        """The store of an `address`."""
        store = Store(address["root"], cache=Path(address["cache"]))
        return cls(store, Reader(**address["reader"]), ((asset, partition) for asset, partition in address["declared"]))

    def declared(self, asset: str) -> list[str]:
        """Partitions of an asset that may be read, in order; empty for an undeclared asset."""
        return list(self._partitions.get(asset, ()))

    def _recorded(self, asset: str, partition: str) -> Manifest | None:
        if partition not in self._partitions.get(asset, ()):
            raise UndeclaredRead(self._reader, f"{asset}[{partition}]", "it to its `reads`")
        return super()._recorded(asset, partition)

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise UndeclaredRead(self._reader, "or writes the store as a whole", "what it reads to its `reads`")

    snapshot = lock = write = directory = _refuse
