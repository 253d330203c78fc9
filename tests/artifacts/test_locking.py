"""One refresh at a time, and none beside DVC."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading

import pytest
from dvc.fs import localfs
from dvc.rwlock import rwlock

from instsynth_dagster.artifacts.locking import dvc_at_work, refresh_lock
from instsynth_dagster.artifacts.storage.local import LocalStorage

HOLD = """
import sys, pathlib
from dvc.fs import localfs
from dvc.rwlock import rwlock

from instsynth_dagster.artifacts.locking import refresh_lock
from instsynth_dagster.artifacts.storage.local import LocalStorage
with refresh_lock(LocalStorage(pathlib.Path(sys.argv[1])), pathlib.Path(sys.argv[1]), print):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
def test_a_second_refresh_waits_for_the_first_and_says_so(tmp_path):
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout.readline() == "held\n"
    said: list[str] = []
    waits, entered = threading.Event(), threading.Event()

    def log(line):
        said.append(line)
        waits.set()

    def take():
        with refresh_lock(LocalStorage(tmp_path), tmp_path, log):
            entered.set()

    thread = threading.Thread(target=take)
    thread.start()
    assert waits.wait(60)
    assert not entered.is_set()
    assert said == [f"waiting for another refresh of {tmp_path} (process {other.pid})"]
    other.kill()  # the lock goes with its process
    assert entered.wait(60)
    thread.join()
    other.wait()


def test_a_dvc_command_is_seen_while_it_holds_anything(tmp_path, monkeypatch):
    """DVC's own lock file, written by DVC."""
    folder = tmp_path / ".dvc" / "tmp"
    assert dvc_at_work(tmp_path) == ""
    folder.mkdir(parents=True)
    held = str(tmp_path / "artifacts")
    for read, write in (([held], []), ([], [held])):
        with rwlock(str(folder), localfs, "dvc repro", read, write, hardlink=False):
            assert dvc_at_work(tmp_path) == f"`dvc repro` (process {os.getpid()})"
        assert dvc_at_work(tmp_path) == ""
    with rwlock(str(folder), localfs, "dvc repro", [], [held], hardlink=False):
        monkeypatch.setenv("DVC_STAGE", "train")
        with refresh_lock(LocalStorage(tmp_path / "store"), tmp_path, print):
            pass  # DVC's own stage does not wait for DVC


@pytest.mark.slow
def test_what_a_dead_dvc_left_holds_nobody_up(tmp_path):
    path = tmp_path / ".dvc" / "tmp" / "rwlock"
    path.parent.mkdir(parents=True)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    path.write_text(json.dumps({"write": {"artifacts": {"pid": gone.pid, "cmd": "dvc repro"}}}))
    assert dvc_at_work(tmp_path) == ""
    path.write_text("{half")
    assert dvc_at_work(tmp_path) == ""
