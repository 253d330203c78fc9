"""Compares every artifact with its digest: `make verify`."""

from __future__ import annotations

from collections.abc import Mapping

from assets import build_graph
from instsynth_dagster.artifacts.store import Store, open_store
from instsynth_dagster.errors import UserError
from instsynth_dagster.graph.staleness import Asset
from instsynth_dagster.settings import load_settings
from resources.progress import progress_bar


def damaged(graph: Mapping[str, Asset], store: Store) -> list[str]:
    """Problems with the files of the graph's partitions, a line each; damaged files are set aside and damaged local
    copies removed, so that the next refresh makes or fetches them again.
    """
    refs = [(key, partition) for key, asset in graph.items() for partition in asset.partitions]
    found = []
    with progress_bar("verifying", len(refs)) as progress:
        for number, ref in enumerate(refs, 1):
            found += store.verify(*ref)
            progress(number, len(refs))
    return found


def main() -> None:
    try:
        settings = load_settings()
        found = damaged(build_graph(settings), open_store(settings))
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
    print("\n".join(found) or "every artifact matches its digest")
    raise SystemExit(1 if found else 0)


if __name__ == "__main__":
    main()
