"""What every declared spec shares: unknown keys are errors, and nothing changes after reading."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Strict(BaseModel):
    """A spec, or a part of one."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def span(text: str, description: str) -> Any:
    """A field of a span of time with the default `text`, which is checked as a user's value is."""
    return Field(default=text, validate_default=True, description=description)
