"""What a refresh would do, why, and how long it would take: nothing is run, nothing heavy is imported."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from assets import build_graph
from instsynth_dagster.artifacts.store import Store, open_store
from instsynth_dagster.doctor import examine, problems
from instsynth_dagster.errors import SettingsError, UserError
from instsynth_dagster.graph.staleness import Asset, ManifestOf, Stale, plan, readable
from instsynth_dagster.settings import Settings, load_settings


@dataclass(frozen=True)
class PlannedAsset:
    """Partitions of one asset that would run, and the seconds they would take by the mean of those that exist.

    `seconds` and `device_seconds` count certain partitions, `at_most` those too that may run; they are None where no
    partition was ever made.
    """

    asset: str
    partitions: int
    certain: int
    possible: int
    reasons: Mapping[str, int]
    seconds: float | None
    device_seconds: float | None
    at_most: float | None


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
        at_most=len(stale) * mean(m.wall_seconds for m in made) if made else None,
    )


def describe(planned: Sequence[PlannedAsset]) -> Iterator[str]:
    """Lines for people."""
    if not planned:
        yield "nothing is stale"
        return
    width = max(len(item.asset) for item in planned)
    yield f"{'asset':{width}}  runs      may run   time      up to     device    why"
    for item in planned:
        reasons = [f"{count} because {reason}" for reason, count in item.reasons.items()]
        why = "; ".join(reasons) or "if its inputs come out different"
        runs = f"{item.certain}/{item.partitions}"
        yield (
            f"{item.asset:{width}}  {runs:8}  {item.possible:<8}  {_duration(item, item.seconds):8}  "
            f"{_clock(item.at_most):8}  {_duration(item, item.device_seconds):8}  {why}"
        )
    known, most = sum(item.seconds or 0 for item in planned), sum(item.at_most or 0 for item in planned)
    unknown = [item.asset for item in planned if item.at_most is None]
    rest = f", not counting {', '.join(unknown)}, never made before" if unknown else ""
    yield f"about {_clock(known)}, up to {_clock(most)} where all inputs come out different, by past runs{rest}"


def _duration(item: PlannedAsset, seconds: float | None) -> str:
    if not item.certain:
        return ""
    return _clock(seconds)


def _clock(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s"
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def lines(settings: Settings) -> Iterator[str]:
    """What a run would end with or is worth a look, the plan, and what is known of the time of what was never made.

    Raises:
        SettingsError: naming the first problem that a run would end with.
    """
    found = examine(settings)
    if bad := problems(found):
        first, *others = bad
        yield from map(str, others)
        more = f"; {len(others)} more of what a run would end with stand above" if others else ""
        raise SettingsError(f"{first.text}{more}")
    yield from (str(finding) for finding in found if finding.kind == "warning")
    planned = planned_assets(build_graph(settings), open_store(settings))
    yield from describe(planned)
    if any(item.at_most is None for item in planned):
        yield from (str(finding) for finding in found if finding.text.startswith("time: "))


def main() -> None:
    try:
        for line in lines(load_settings()):
            print(line, flush=True)
    except BrokenPipeError:  # whoever reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except UserError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
