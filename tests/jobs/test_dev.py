"""What runs beside the UI: pages that it links to, and an end that leaves nothing."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from assets.shared.kept import SERVED_AT, address
from assets.shared.made import Page
from instsynth_dagster.artifacts.locking import is_alive
from instsynth_dagster.artifacts.store import Store
from jobs import dev
from tests.artifacts.test_store import FINGERPRINT, fill
from tests.assets.test_graph import settings_for

STOPPED = """
import sys
from jobs.session import run_until_stopped
raise SystemExit(run_until_stopped([sys.executable, "-c", sys.argv[1]]))
"""
SERVICES = """
import pathlib, subprocess, sys, time
other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
pathlib.Path({told!r}).write_text(str(other.pid))
try:
    time.sleep(300)
except KeyboardInterrupt:
    print("stopping", flush=True)
"""


def get(url: str) -> tuple[int, str, str]:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["Content-Type"], error.read().decode()


def test_kept_files_of_finished_partitions_are_served_and_nothing_else(tmp_path, monkeypatch):
    settings = settings_for(tmp_path)
    store = Store(settings.artifacts.root)
    fill(store, [{"name": "x"}])
    with store.write("report", "all", FINGERPRINT) as out:
        (out.folder("report") / "report.html").write_text("<p>page</p>")
    unfinished = store.directory("report", "half") / f"{FINGERPRINT[:12]}-report"
    unfinished.mkdir(parents=True)
    (unfinished / "report.html").write_text("<p>half</p>")
    monkeypatch.setattr(dev, "load_settings", lambda: settings)
    port = free_port()
    with dev.serving_pages(pytest.fail, port):
        own = address(store.require("report"), Page("report", "report.html")).replace(
            SERVED_AT, f"http://127.0.0.1:{port}"
        )
        assert get(own) == (200, "text/html", "<p>page</p>")
        (part,) = store.require("crops", "aachen|car").parts
        for path in (
            own.replace("/all/", "/half/"),
            own.replace(FINGERPRINT[:12], "0" * 12),
            f"http://127.0.0.1:{port}/crops/aachen/car/{part.path}",
            f"http://127.0.0.1:{port}/report/all/manifest.json",
            f"http://127.0.0.1:{port}/report/all/../../../params.yaml",
            f"http://127.0.0.1:{port}/report/%2e%2e/all/%2e%2e/x/report.html",
            f"http://127.0.0.1:{port}/",
        ):
            status, kind, text = get(path)
            assert (status, kind.split(";")[0]) == (404, "text/plain"), path
            assert "no such file in this project's store" in text


def free_port() -> int:
    with socket.socket() as found:
        found.bind((dev.HOST, 0))
        return found.getsockname()[1]


def test_a_busy_port_is_one_line(monkeypatch):
    with socket.socket() as taken:
        taken.bind((dev.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SystemExit, match=rf"error: port {port} is in use; .* make dev PORT=<number>"):
            dev.main(["--port", str(port)])
        said: list[str] = []
        with dev.serving_pages(said.append, port):
            assert len(said) == 1
            assert f"port {port} is in use" in said[0]
    assert dev.is_free(port)


@pytest.mark.slow
@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_an_end_leaves_no_process_also_where_a_shell_ignores_interrupts(tmp_path, by):
    told = tmp_path / "pid"
    command = [sys.executable, "-c", STOPPED, SERVICES.format(told=str(told))]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    while not (told.exists() and told.read_text()):
        time.sleep(0.05)
        assert process.poll() is None, process.stderr.read()
    process.send_signal(by)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, errors) == (0, "stopping\n", "")
    for _ in range(600):
        if not is_alive(int(told.read_text())):
            return
        time.sleep(0.05)
    raise AssertionError("a process is left")
