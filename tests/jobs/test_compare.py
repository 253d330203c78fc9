"""The command that compares two runs: what it takes for a run, and what it says of anything else."""

from __future__ import annotations

import subprocess
import sys

import pytest

from instsynth_dagster.artifacts.store import Store
from instsynth_dagster.evaluation.report.report import ReportData, render_report, stamped
from jobs.compare import main


def page(steps: int) -> str:
    data = ReportData(settings={"generators.g.steps": str(steps)}, verdict=f"After {steps} steps.")
    return stamped(render_report(data), {"commit": "abc"})


def test_folders_of_results_stores_and_params_files_are_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    (tmp_path / "results/report.html").write_text(page(10))
    with Store(tmp_path / "store").write("report", "all", "f" * 64) as out:
        (out.folder("report") / "report.html").write_text(page(20))
    (tmp_path / "p.yaml").write_text("{artifacts: {root: store}, dataset: {root: data, train_cities: [ulm]}}")
    for other in ("store", "p.yaml"):
        main(["results", other, "--out", "both.html"])
        assert capsys.readouterr().out == f"comparison: {tmp_path / 'both.html'}\n"
        html = (tmp_path / "both.html").read_text()
        assert "After 10 steps." in html
        assert "After 20 steps." in html
        assert ">10</td>" in html
        assert ">20</td>" in html


def shell(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


@pytest.mark.slow
def test_commits_whose_reports_are_in_the_cache_of_dvc_are_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    dvc, git = (sys.executable, "-m", "dvc"), ("git", "-c", "user.name=n", "-c", "user.email=n@example.org")
    (tmp_path / "dvc.yaml").write_text("stages: {evaluate: {cmd: 'true', outs: [{artifacts/report: {persist: true}}]}}")
    shell("git", "init", "-q")
    shell(*dvc, "init", "-q")
    shell("git", "add", ".")
    shell(*git, "commit", "-qm", "nothing made yet")
    for steps in (10, 20):
        with Store(tmp_path / "artifacts").write("report", "all", f"{steps:064}") as out:
            (out.folder("report") / "report.html").write_text(page(steps))
        shell(*dvc, "commit", "--quiet", "--force", "dvc.yaml")
        shell("git", "add", ".")
        shell(*git, "commit", "-qm", str(steps))
    main(["HEAD~1", "HEAD", "--out", "both.html"])
    html = (tmp_path / "both.html").read_text()
    assert html.index("After 10 steps.") < html.index("After 20 steps.")
    assert "<td>generators.g.steps</td>" in html
    with pytest.raises(SystemExit) as ended:
        main(["HEAD~2", "HEAD"])
    assert str(ended.value).startswith("error: HEAD~2: DVC cannot give artifacts/report of this commit (")
    assert "\n" not in str(ended.value)


@pytest.mark.parametrize(
    ("run", "says"),
    [
        ("nothing", "nothing: neither a file, nor a folder, nor a commit"),
        ("", "a comparison is of two runs: make compare A="),
        (".", ".: holds no report.html"),
        ("p.yaml", "p.yaml: its store holds no report yet"),
    ],
)
def test_what_is_no_run_is_one_line(tmp_path, monkeypatch, run, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.yaml").write_text("{dataset: {root: data, train_cities: [ulm]}}")
    with pytest.raises(SystemExit) as ended:
        main([run, run])
    assert str(ended.value).startswith(f"error: {says}")
    assert "\n" not in str(ended.value)
    assert not (tmp_path / "results").exists()
