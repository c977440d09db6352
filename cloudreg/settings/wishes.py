"""What an endpoint wishes for: GPUs by class or by what they must have, and hours of the week."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cloudreg.catalog import GpuWish
from cloudreg.hours import Schedule


class GpuSettings(BaseModel):
    """``gpu``: ``"T4"``, ``"T4:2"``, or a table.

    Attributes:
        class_: ``class``: such as ``T4``.
        count: GPUs for each replica.
        min_memory_gib: Instead of a class: memory that each must have, as its maker prints it.
        min_compute_capability: Instead of a class, or beside the memory: such as ``"8.0"``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    class_: str | None = Field(default=None, alias="class")
    count: int = Field(default=1, ge=1, le=99)
    min_memory_gib: float | None = None
    min_compute_capability: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        """Read ``T4:2`` as a table."""
        if not isinstance(value, str):
            return value
        gpu, colon, count = value.partition(":")
        if not colon:
            return {"class": value}
        # What is no number is told of with the whole text, by whoever reads the class.
        return {"class": gpu, "count": count} if count.isdecimal() else {"class": value}

    def wish(self, *, allow_downgrade: bool) -> GpuWish:
        """Return it as the catalog speaks of it.

        Raises:
            InvalidRequest: Nothing is wished for, or what cannot be.
        """
        return GpuWish(
            accelerator=self.class_,
            count=self.count,
            min_memory_gib=self.min_memory_gib,
            min_compute_capability=self.min_compute_capability,
            allow_downgrade=allow_downgrade,
        )


class ScheduleSettings(BaseModel):
    """``schedule``: ``{days = "mon-fri", from = "07:00", to = "19:00", timezone = "…"}``.

    Attributes:
        days: ``mon-fri``, ``mon,wed,sat``; those on which the hours begin.
        begins: ``from``: the time of day by a clock on the wall.
        ends: ``to``: likewise; before ``from``, that of the next day.
        timezone: IANA name of the clock's zone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    days: str = "mon-sun"
    begins: str = Field(alias="from")
    ends: str = Field(alias="to")
    timezone: str = "UTC"

    def noun(self) -> Schedule:
        """Return it as the core speaks of it.

        Raises:
            InvalidRequest: A day, a time or a zone that is none.
        """
        return Schedule.parse(
            days=self.days, begins=self.begins, ends=self.ends, timezone=self.timezone
        )
