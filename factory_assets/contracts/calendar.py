"""What a user declares of the factory's days: the one daily partitioning that sources and predictions share."""

import re
from datetime import date
from typing import Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

_TIME_OF_DAY = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")


def check_time_of_day(text: str) -> str:
    """Returns `text` when it is a time of day, HH:MM.

    Raises:
        ValueError: when it is not.
    """
    if not _TIME_OF_DAY.fullmatch(text):
        raise ValueError(f"{text!r} is not a time of day: write HH:MM, such as 06:00")
    return text


class CalendarSpec(BaseModel):
    """One factory, one calendar: a run over a range of days can then hold sources and predictions together."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    start: date = Field(description="The first day there is data for.")
    end: date | None = Field(default=None, description="The first day after the last one; absent: no end.")
    timezone: str = Field(default="UTC", description="The time zone whose midnight parts the days.")
    daily_at: str = Field(default="06:00", description="When the daily run starts, HH:MM in `timezone`.")
    lookback_days: int = Field(default=3, ge=1, description="Days the daily run takes in, so that late files are found.")

    @field_validator("timezone")
    @classmethod
    def _timezone_exists(cls, timezone: str) -> str:
        try:
            ZoneInfo(timezone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"{timezone!r} is not a time zone: write a name such as America/New_York or UTC") from error
        return timezone

    @field_validator("daily_at")
    @classmethod
    def _daily_at_is_a_time(cls, daily_at: str) -> str:
        return check_time_of_day(daily_at)

    @model_validator(mode="after")
    def _end_is_after_start(self) -> Self:
        if self.end is not None and self.end <= self.start:
            raise ValueError(f"end {self.end} is not after start {self.start}")
        return self
