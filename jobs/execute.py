"""Run a job from a terminal: `python -m jobs.execute refresh`. Ctrl-C ends it with one line."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence

from jobs.session import DEFAULT_INTERRUPT, run_until_stopped


def run_in_this_process(name: str) -> None:
    """Run a job in this process, with exit status 1 where it fails."""
    import dagster as dg

    from instsynth_dagster.definitions import defs

    signal.signal(signal.SIGINT, signal.default_int_handler)
    with dg.DagsterInstance.get() as instance:
        result = defs.resolve_job_def(name).execute_in_process(instance=instance, raise_on_error=False)
    raise SystemExit(0 if result.success else 1)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m jobs.execute", description="Run a job of this project.")
    parser.add_argument("job", help="refresh, prepare, synthesize, export, train, evaluate or demo")
    name = parser.parse_args(arguments).job
    start = f"{DEFAULT_INTERRUPT}; from jobs.execute import run_in_this_process; run_in_this_process({name!r})"
    raise SystemExit(run_until_stopped([sys.executable, "-c", start]))


if __name__ == "__main__":
    main()
