"""Two runs on one HTML page: settings that differ, tables with their differences, the same crops side by side."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from instsynth_dagster.artifacts.files import write_atomically
from instsynth_dagster.artifacts.store import UNPARTITIONED, Store, open_store
from instsynth_dagster.artifacts.writer import PAGES
from instsynth_dagster.errors import ArtifactError, UserError
from instsynth_dagster.evaluation.report.comparison import render_comparison
from instsynth_dagster.evaluation.report.record import ReportPage, read_report
from instsynth_dagster.settings import load_settings
from jobs.results import REPORT

_DVC_OUT = "artifacts/report"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.compare",
        description=f"{__doc__} A run is a report.html, a folder of results, a params file, a store, or a commit whose "
        "report is in the cache of DVC.",
    )
    parser.add_argument("first", metavar="A")
    parser.add_argument("second", metavar="B")
    parser.add_argument("--out", type=Path, default=Path("results/comparison.html"), help="default: %(default)s")
    given = parser.parse_args(arguments)
    try:
        pages = page_of(given.first), page_of(given.second)
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
    given.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(given.out, render_comparison(*pages, (given.first, given.second)).encode())
    print(f"comparison: {given.out.resolve()}")


def page_of(run: str) -> ReportPage:
    """The report of a run.

    Raises:
        UserError: there is none, or it cannot be compared.
    """
    if not run:
        raise ArtifactError("a comparison is of two runs: make compare A=results B=other/results")
    path = Path(run)
    if path.suffix in (".yaml", ".yml"):
        return _stored(open_store(load_settings(path)), run)
    if path.is_file():
        return read_report(path)
    if (path / REPORT).is_file():
        return read_report(path / REPORT)
    if (path / "report" / UNPARTITIONED).is_dir():
        return _stored(Store(path), run)
    if path.is_dir():
        raise ArtifactError(f"{run}: holds no {REPORT} and is no store with a report; `make refresh` writes both")
    return _committed(run)


def _stored(store: Store, run: str) -> ReportPage:
    if store.manifest("report", UNPARTITIONED) is None:
        raise ArtifactError(f"{run}: its store holds no report yet; run `make refresh` with these settings")
    return read_report(store.folder("report", UNPARTITIONED, PAGES) / REPORT)


def _committed(commit: str) -> ReportPage:
    """The report in `dvc.lock` of a commit, from the cache of DVC."""
    known = subprocess.run(["git", "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}"], capture_output=True)
    if known.returncode:
        raise ArtifactError(f"{commit}: neither a file, nor a folder, nor a commit of this repository")
    with TemporaryDirectory() as place:
        out = Path(place, "report")
        command = [sys.executable, "-m", "dvc", "get", ".", _DVC_OUT, "--rev", commit, "--out", str(out)]
        done = subprocess.run(command, capture_output=True, text=True)
        found = sorted(out.rglob(REPORT))
        if done.returncode or not found:
            messages = [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
            why = messages[0] if messages else "its report holds no page"
            raise ArtifactError(f"{commit}: DVC cannot give {_DVC_OUT} of this commit ({why})")
        return read_report(found[0])


if __name__ == "__main__":
    main()
