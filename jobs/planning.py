"""The plan of a refresh: what would run, why, and how long it would take; nothing is run and no model library
imported.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from assets import build_graph
from instsynth_dagster.artifacts.store import Store, open_store
from instsynth_dagster.doctor import problems, survey
from instsynth_dagster.doctor.estimate import Work, work_findings
from instsynth_dagster.errors import SettingsError, UserError
from instsynth_dagster.graph.staleness import Asset, ManifestOf, Stale, intact_manifest, plan
from instsynth_dagster.settings import Settings, load_settings


@dataclass(frozen=True)
class PlannedAsset:
    """Partitions of one asset that would run, and the seconds that they would take one after the other: for each its
    last time, for a new one the longest of the others.

    `seconds` and `device_seconds` cover certain partitions, `at_most` also those that may run. Where no partition was
    ever made they are measured or assumed by the examination (`assumed`), or None.
    """

    asset: str
    partitions: int
    certain: int
    possible: int
    reasons: Mapping[str, int]
    seconds: float | None
    device_seconds: float | None
    at_most: float | None
    assumed: bool = False


def planned_assets(graph: Mapping[str, Asset], store: Store, works: Sequence[Work] = ()) -> list[PlannedAsset]:
    """The plan, asset by asset, upstream first, without assets that are up to date.

    Args:
        works: work that the examination measured or assumes, for assets that were never made.
    """
    stale: dict[str, list[Stale]] = {}
    manifest_of = store.snapshot()
    for item in plan(list(graph.values()), manifest_of):
        stale.setdefault(item.asset, []).append(item)
    return [_summary(graph[key], items, manifest_of, works) for key, items in stale.items()]


def _summary(asset: Asset, stale: Sequence[Stale], manifest_of: ManifestOf, works: Sequence[Work]) -> PlannedAsset:
    certain = [item for item in stale if item.certain]
    reasons: dict[str, int] = {}
    for item in certain:
        reasons[item.reason] = reasons.get(item.reason, 0) + 1
    made = {key: manifest for key in asset.partitions if (manifest := intact_manifest(manifest_of, asset.key, key))}
    wall = _Seconds({key: manifest.wall_seconds for key, manifest in made.items()}, asset, works)
    device = _Seconds({key: manifest.device_seconds for key, manifest in made.items()}, asset, works)
    return PlannedAsset(
        asset=asset.key,
        partitions=len(asset.partitions),
        certain=len(certain),
        possible=len(stale) - len(certain),
        reasons=reasons,
        seconds=wall.of(certain),
        device_seconds=device.of(certain),
        at_most=wall.of(stale),
        assumed=not made and wall.of(stale) is not None,
    )


@dataclass(frozen=True)
class _Seconds:
    """Seconds of partitions from their last times, else from the assumed work."""

    known: Mapping[str, float]
    asset: Asset
    works: Sequence[Work]

    def of(self, items: Sequence[Stale]) -> float | None:
        each = [self._one(item.partition) for item in items]
        return None if None in each else sum(one for one in each if one is not None)

    def _one(self, partition: str) -> float | None:
        if self.known:
            return self.known.get(partition, max(self.known.values()))
        member, _, kind = self.asset.key.rpartition("/")
        segmenter = partition.rpartition("|")[2]
        for one in self.works:
            if kind == "inpainted_crops" and one.key == f"generators.{member}":
                return one.seconds / len(self.asset.partitions)
            if kind == "trained_segmenters" and one.key == f"segmenters.{segmenter}":
                return one.each
        return None


def describe(planned: Sequence[PlannedAsset]) -> Iterator[str]:
    """The plan as lines of text."""
    if not planned:
        yield "nothing is stale"
        return
    width = max(len(item.asset) for item in planned)
    yield f"{'asset':{width}}  runs      up to     of a device  may run too  then up to  why"
    for item in planned:
        reasons = [f"{count} because {reason}" for reason, count in item.reasons.items()]
        why = "; ".join(reasons) or "if its inputs change"
        runs = f"{item.certain}/{item.partitions}"
        yield (
            f"{item.asset:{width}}  {runs:8}  {_duration(item, item.seconds):8}  "
            f"{_duration(item, item.device_seconds):11}  {item.possible:<11}  {_clock(item.at_most):10}  {why}"
        )
    surely, most = sum(item.seconds or 0 for item in planned), sum(item.at_most or 0 for item in planned)
    then = f", up to {_clock(most)} if all inputs change" if most > surely else ""
    yield f"up to {_clock(surely)}{then}: by past runs, one partition after the other"
    if assumed := [item.asset for item in planned if item.assumed]:
        yield f"never made before, so by what is known of the device: {_some(assumed)}"
    if unknown := [item.asset for item in planned if item.at_most is None]:
        yield f"never made before, so not counted: {_some(unknown)}"


def _some(names: Sequence[str], most: int = 4) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{rest}"


def _duration(item: PlannedAsset, seconds: float | None) -> str:
    if not item.certain:
        return ""
    return _clock(seconds)


def _clock(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    whole = ceil(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def lines(settings: Settings) -> Iterator[str]:
    """Problems and warnings, the plan, and the basis of estimated times.

    Raises:
        SettingsError: a run would end with a problem; the message is the first one.
    """
    found, works = survey(settings)
    if bad := problems(found):
        first, *others = bad
        yield from map(str, others)
        more = f"; {len(others)} more of what a run would end with stand above" if others else ""
        raise SettingsError(f"{first.text}{more}")
    yield from (str(finding) for finding in found if finding.kind == "warning")
    planned = planned_assets(build_graph(settings), open_store(settings), works)
    yield from describe(planned)
    if any(item.assumed for item in planned):
        yield from map(str, work_findings(works, settings))


def main() -> None:
    try:
        for line in lines(load_settings()):
            print(line, flush=True)
    except BrokenPipeError:  # the reader closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except UserError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
