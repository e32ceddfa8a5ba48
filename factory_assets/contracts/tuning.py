"""What a user declares of how a fit is tuned: the search over parameters, and what older rows weigh."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from factory_assets.contracts.names import Duration

ParamValue = bool | int | float | str | None


class RangeSpec(BaseModel):
    """A span of numbers to draw from, both ends in it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    low: int | float = Field(description="The least value.")
    high: int | float = Field(description="The greatest value; with two whole ends whole numbers are drawn.")
    log: bool = Field(default=False, description="Draw every magnitude alike.")

    @model_validator(mode="after")
    def _low_is_below_high(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low, {self.low:g}, must be below high, {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"with log: true, low must be above 0, and it is {self.low:g}")
        return self

    @property
    def is_whole(self) -> bool:
        """Whether only whole numbers are drawn: when both ends are written as such."""
        return isinstance(self.low, int) and isinstance(self.high, int)


class SearchSpec(BaseModel):
    """A search over the estimator's parameters, judged on later rows inside the training rows; never on the holdout."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    space: dict[str, tuple[ParamValue, ...] | RangeSpec] = Field(
        min_length=1,
        description="Parameter to `[value, …]` or `{low, high, log}`; it stands above `params`.",
    )
    budget: int = Field(
        default=20,
        ge=2,
        le=1000,
        description="Candidates, `params` alone among them: all combinations if there are no more, else a random sample.",
    )
    folds: int = Field(
        default=3, ge=1, le=20, description="Each candidate is fitted so often on older rows and judged on the ones after."
    )

    @model_validator(mode="after")
    def _space_holds_something(self) -> Self:
        for name, values in self.space.items():
            if isinstance(values, tuple) and len(set(map(repr, values))) < max(1, len(values)):
                raise ValueError(f"space.{name} is empty, or says a value twice: {list(values)}")
        return self


class SampleWeightSpec(BaseModel):
    """What a training row weighs in the fit; in the evaluation every row weighs the same."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    half_life: Duration = Field(description="A row that is older than the cut by this span weighs half, by twice a quarter.")
