"""The device on which models run."""

from __future__ import annotations

import fcntl
import os
import tempfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, Literal

from instsynth_dagster.errors import UnreadableError

DeviceSetting = Literal["auto", "cpu", "cuda"]
_DRIVERS = ("nvidia[0-9]*", "dxg", "kfd")
"""Names below /dev of the device files of CUDA, of CUDA in WSL, and of ROCm."""


@dataclass(frozen=True)
class Device:
    """The device on which models run. `name` is resolved on first use, so that loading the definitions does not import
    torch.

    On the CPU a process computes with `threads` threads: the last bits of a training depend on their number, so it may
    not depend on the machine. Of several GPUs a process takes the first that no other process of this user holds, and
    keeps it for its lifetime; where all are taken it shares the first, and the pool keeps their steps apart.
    """

    wanted: DeviceSetting
    threads: int = 1
    leases: Path = Path(tempfile.gettempdir()) / f"instsynth-gpus-{os.getuid()}"
    _held: list[IO[str]] = field(default_factory=list, repr=False, compare=False)

    @cached_property
    def name(self) -> str:
        """ "cpu" or "cuda"."""
        import torch

        from instsynth_dagster.segmenters.training.launch import ALL_GPUS

        if self.wanted == "cpu" or (self.wanted == "auto" and not torch.cuda.is_available()):
            torch.set_num_threads(self.threads)
            return "cpu"
        visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(torch.cuda.device_count())))
        if "," in visible:
            # read by CUDA when it is initialised, which happens later; libraries that use GPU 0 get the right one
            os.environ[ALL_GPUS] = visible
            os.environ["CUDA_VISIBLE_DEVICES"] = self._lease(visible.split(","))
        return "cuda"

    def _lease(self, gpus: list[str]) -> str:
        self.leases.mkdir(mode=0o700, exist_ok=True)
        if self.leases.is_symlink() or self.leases.stat().st_uid != os.getuid():
            raise UnreadableError(f"{self.leases}: belongs to another user; remove it")
        for gpu in gpus:
            file = (self.leases / f"{gpu}.lock").open("a")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                continue
            self._held.append(file)
            return gpu
        return gpus[0]


def count_gpus(wanted: DeviceSetting) -> int:
    """Number of GPUs on which steps may run; torch is imported only where the machine has a GPU driver."""
    if wanted == "cpu" or not any(path for pattern in _DRIVERS for path in Path("/dev").glob(pattern)):
        return 0
    import torch

    return torch.cuda.device_count()
