"""The command that compares two runs: what it takes for a run, and what it says of anything else."""

from __future__ import annotations

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
