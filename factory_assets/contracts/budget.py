"""What a user declares of the limits that all lines share."""

from pydantic import Field

from factory_assets.contracts.strict import Strict


class RetrainBudgetSpec(Strict):
    """How much retraining the factory may do: a storm of drift waits in line, the greatest expected loss first."""

    runs_at_once: int = Field(default=2, ge=1, description="Most retrains that are requested or running at a time.")
    segments_a_run: int = Field(default=500, ge=1, description="Most segments of a fleet that go into one run.")
    cpu_minutes_a_day: float | None = Field(
        default=None, gt=0, description="CPU time that retrains may take in a day (UTC, wall clock); absent: no limit."
    )
