"""A job in a terminal: an interrupt ends it in one line and leaves no process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
import yaml

from jobs.console import console
from tests.assets.test_graph import Project, settings_for

ROOT = Path(__file__).parents[2]
SENTENCE = "interrupted; finished work is kept, and the next run continues from there\n"


def test_the_console_tells_an_interrupt_once_and_all_else_as_it_is(capsys, monkeypatch):
    monkeypatch.setattr("jobs.console._OneInterruption._reported", False)
    for name in ("of_the_job", "of_a_step"):
        logger = console(dg.build_init_logger_context(logger_config={"name": name, "log_level": "INFO"}))
        logger.error("Steps failed.\n\ndagster._core.errors.DagsterExecutionInterruptedError\n\nStack Trace:\n  File x")
        logger.error("KeyboardInterrupt")
        logger.info("said by %s", name)
    lines = capsys.readouterr().err.splitlines(keepends=True)
    assert lines.count(SENTENCE) == 1
    assert len(lines) == 3


@pytest.mark.slow
def test_an_interrupted_refresh_ends_in_one_line(tmp_path):
    Project(tmp_path)
    params = tmp_path / "params.yaml"
    params.write_text(yaml.safe_dump(settings_for(tmp_path).model_dump(mode="json", exclude_unset=True)))
    (tmp_path / "home").mkdir()
    environment = {"DAGSTER_HOME": str(tmp_path / "home"), "INSTSYNTH_PARAMS": str(params), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-m", "jobs.execute", "refresh"],
        cwd=tmp_path,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout
    for line in process.stdout:
        if "[1/" in line:
            break
    process.send_signal(signal.SIGINT)
    rest = process.stdout.read().splitlines(keepends=True)
    assert process.wait(60) == 0
    assert rest[-1] == SENTENCE
    assert not any("Traceback" in line or "Error" in line for line in rest)
