"""Names of few-shot tasks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FewShotTask:
    """K shots drawn with a seed; `name` is its partition key: "k5-s1"."""

    shots: int
    seed: int

    @property
    def name(self) -> str:
        return f"k{self.shots}-s{self.seed}"

    @classmethod
    def parse(cls, name: str) -> FewShotTask:
        """The task with a name; inverse of `name`."""
        shots, _, seed = name.removeprefix("k").partition("-s")
        return cls(int(shots), int(seed))
