"""What a refresh would do, why, and how long it would take: nothing is run, nothing heavy is imported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from assets import build_graph
from instsynth_dagster.artifacts.store import Store, open_store
from instsynth_dagster.errors import UserError
from instsynth_dagster.graph.staleness import Asset, ManifestOf, Stale, plan, readable
from instsynth_dagster.settings import load_settings


@dataclass(frozen=True)
class PlannedAsset:
    """Partitions of one asset that would run, and the seconds they would take by the mean of those that exist.

    `seconds` and `device_seconds` count certain partitions only and are None where no partition was ever made.
    """

    asset: str
    partitions: int
    certain: int
    possible: int
    reasons: Mapping[str, int]
    seconds: float | None
    device_seconds: float | None


def planned_assets(graph: Mapping[str, Asset], store: Store) -> list[PlannedAsset]:
    """The plan, asset by asset, upstream first; up-to-date assets are left out."""
    stale: dict[str, list[Stale]] = {}
    manifest_of = store.snapshot()
    for item in plan(list(graph.values()), manifest_of):
        stale.setdefault(item.asset, []).append(item)
    return [_summary(graph[key], items, manifest_of) for key, items in stale.items()]


def _summary(asset: Asset, stale: Sequence[Stale], manifest_of: ManifestOf) -> PlannedAsset:
    certain = [item for item in stale if item.certain]
    reasons: dict[str, int] = {}
    for item in certain:
        reasons[item.reason] = reasons.get(item.reason, 0) + 1
    made = [manifest for key in asset.partitions if (manifest := readable(manifest_of, asset.key, key))]
    return PlannedAsset(
        asset=asset.key,
        partitions=len(asset.partitions),
        certain=len(certain),
        possible=len(stale) - len(certain),
        reasons=reasons,
        seconds=len(certain) * mean(m.wall_seconds for m in made) if made else None,
        device_seconds=len(certain) * mean(m.device_seconds for m in made) if made else None,
    )


def describe(planned: Sequence[PlannedAsset]) -> Iterator[str]:
    """Lines for people."""
    if not planned:
        yield "nothing is stale"
        return
    width = max(len(item.asset) for item in planned)
    yield f"{'asset':{width}}  runs      may run   time      device    why"
    for item in planned:
        reasons = [f"{count} because {reason}" for reason, count in item.reasons.items()]
        why = "; ".join(reasons) or "if its inputs come out different"
        runs = f"{item.certain}/{item.partitions}"
        yield (
            f"{item.asset:{width}}  {runs:8}  {item.possible:<8}  {_duration(item, item.seconds):8}  "
            f"{_duration(item, item.device_seconds):8}  {why}"
        )
    known = sum(item.seconds or 0 for item in planned)
    unknown = [item.asset for item in planned if item.certain and item.seconds is None]
    rest = f", not counting {', '.join(unknown)}, never made before" if unknown else ""
    yield f"about {_clock(known)} by past runs{rest}"


def _duration(item: PlannedAsset, seconds: float | None) -> str:
    if not item.certain:
        return ""
    return "?" if seconds is None else _clock(seconds)


def _clock(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s"
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def main() -> None:
    try:
        settings = load_settings()
        for line in describe(planned_assets(build_graph(settings), open_store(settings))):
            print(line)
    except UserError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
