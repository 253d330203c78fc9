"""When a refresh starts by itself, and what the device may cost."""

from __future__ import annotations

from zoneinfo import available_timezones

from pydantic import Field, field_validator

from instsynth_dagster.settings.base import Section


class CostSettings(Section):
    """What the device costs, and how much of it may be used."""

    price_per_hour: float | None = Field(None, ge=0, description="of the device")
    currency: str = "EUR"
    device_hours: float | None = Field(
        None,
        gt=0,
        description="budget of this store, all that was ever made in it included",
    )


class NightlySettings(Section):
    """When the schedule `nightly` looks for stale parts."""

    cron: str = Field("0 2 * * *", pattern=r"^(\S+\s+){4}\S+$", description="minute hour day month weekday")
    time_zone: str = "UTC"

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        if name not in available_timezones():
            raise ValueError(f"unknown time zone {name!r}; give a name like Europe/Berlin")
        return name
