"""The factory clock: the wall clock, or the instant a replay of history has reached."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path


@dataclass(frozen=True)
class FactoryClock:
    """Says what time it is for the factory's verdicts. Processes agree, because the instant lies in one small file."""

    path: Path

    def now(self) -> datetime:
        """The replayed instant when there is one, else the wall clock; aware, UTC."""
        replayed = self.replayed_instant()
        return replayed if replayed is not None else datetime.now(UTC)

    def replayed_instant(self) -> datetime | None:
        """Where the replay stands; None when the factory lives in the present."""
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        return datetime.fromisoformat(json.loads(text)["now_utc"]).astimezone(UTC)

    def set(self, instant: datetime) -> None:
        """Moves the replay to `instant`, atomically.

        Raises:
            ValueError: when `instant` has no time zone.
        """
        if instant.tzinfo is None:
            raise ValueError(f"the factory clock needs a time zone: {instant!r}")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_suffix(".draft")
        draft.write_text(json.dumps({"now_utc": instant.astimezone(UTC).isoformat()}), encoding="utf-8")
        draft.replace(self.path)
