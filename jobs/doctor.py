"""Checks of a params file before long work: `make doctor`, with CALIBRATE=1 to measure times on this machine."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from instsynth_dagster.doctor import examine_thoroughly, problems
from instsynth_dagster.errors import UserError
from instsynth_dagster.settings import load_settings


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.doctor",
        description="Examine models, data set, device, memory, disk, time and money of $INSTSYNTH_PARAMS.",
    )
    parser.add_argument(
        "--calibrate",
        action="store_true",
        help="run two crops of each generator and three steps of each segmenter, and keep the times for make plan",
    )
    given = parser.parse_args(arguments)
    try:
        found = examine_thoroughly(load_settings(), measure=given.calibrate)
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
    for finding in found:
        print(finding)
    if bad := problems(found):
        raise SystemExit(f"error: {len(bad)} problem{'s' if len(bad) > 1 else ''} that a run would end with")


if __name__ == "__main__":
    main()
