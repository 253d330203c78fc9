"""Settings of operation: the meaning of scores, scheduled refreshes, worker processes, and the cost of the device."""

from __future__ import annotations

from typing import Annotated, Literal
from zoneinfo import available_timezones

from pydantic import Field, field_validator

from instsynth_dagster.settings.base import Section


class EvaluationSettings(Section):
    """The protocol of AP and AP50 in tables, verdict and report; the other protocol's AP is shown beside them."""

    protocol: Literal["cityscapes", "coco"] | None = Field(
        None, description="default: cityscapes where its label table holds, coco for all other data"
    )


class CostSettings(Section):
    """The price of the device, and the budget for it."""

    price_per_hour: float | None = Field(None, ge=0, description="of the device")
    currency: str = "EUR"
    device_hours: float | None = Field(
        None,
        gt=0,
        description="budget of this store, including all earlier work in it",
    )


class WorkerSettings(Section):
    """Processes of this machine in which a refresh executes its runs. Results do not depend on their number."""

    processes: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto", description="auto: one for every `threads` CPU cores, no more than fit into memory"
    )
    memory_gb: float = Field(
        3.0, gt=0, description="of a process; one that holds more after a run is replaced by a fresh one"
    )
    threads: int = Field(
        1, ge=1, description="of a process that computes on the CPU; the last bits of a training depend on it"
    )


class NightlySettings(Section):
    """The time at which the schedule `nightly` checks for stale partitions."""

    cron: str = Field("0 2 * * *", description="minute hour day month weekday")
    time_zone: str = "UTC"

    @field_validator("cron")
    @classmethod
    def _five_fields(cls, cron: str) -> str:
        if len(cron.split()) != 5:
            raise ValueError(f"{cron!r} is not understood; write minute, hour, day, month, weekday, e.g. '0 2 * * *'")
        return cron

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        if name not in available_timezones():
            raise ValueError(f"unknown time zone {name!r}; give a name like Europe/Berlin")
        return name
