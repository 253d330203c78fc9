"""`dvc repro` that waits for other DVC commands on the same outputs instead of failing."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from instsynth_dagster.artifacts.locking import dvc_at_work
from instsynth_dagster.artifacts.waiting import wait_while

_BUSY = "it is being blocked by"
_PAUSE = 2.0


def main() -> None:
    """Run `dvc repro` with the command's arguments."""
    while True:
        wait_while(lambda: dvc_at_work(Path.cwd()), print)
        code, busy = repro(sys.argv[1:])
        if not busy:
            raise SystemExit(code)
        time.sleep(_PAUSE)


def repro(arguments: list[str]) -> tuple[int, bool]:
    """Exit status, and whether another command held an output; DVC itself waits for its own lock only."""
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", *arguments]
    busy = False
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        for line in process.stderr:
            busy |= _BUSY in line
            sys.stderr.write(line)
    return process.returncode, busy and process.returncode != 0


if __name__ == "__main__":
    main()
