"""When a line is retrained, and how: the part of a declaration that the retraining sensor acts on."""

import math
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Field, field_validator, model_validator

from factory_assets.contracts.names import Duration
from factory_assets.contracts.retraining import Action, Strategy
from factory_assets.contracts.strict import Strict, span

# What a retrain can mend: failed checks, and what is due by itself.
Trigger = Literal[
    "model_age",
    "feature_drift",
    "joint_drift",
    "prediction_drift",
    "label_drift",
    "quality",
    "estimated_quality",
    "new_rows",
    "schedule",
]


def _check_rows(value: Any) -> int | str:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    number = str(value).strip().removesuffix("%").strip()
    if not str(value).strip().endswith("%") or not number.replace(".", "", 1).isdecimal() or float(number) <= 0:
        raise ValueError(f"{value!r} is no number of rows: write a whole number from 1 on, or a share such as 5%")
    return f"{number}%"


RowsOrShare = Annotated[int | str, BeforeValidator(_check_rows)]


def _split(when: str) -> list[str]:
    return [name.strip() for name in when.split("+")]


class RetrainRule(Strict):
    """One reason to retrain: what has to be there, and what is done then. A plain name stands for a rule of its own."""

    when: str | None = Field(
        default=None, description="A trigger, or several joined by ` + `: then all of them at once, for the same segment."
    )
    check: str | None = Field(
        default=None,
        description="A check of your own that has to have failed (with `when`, as well): the name of a dbt test or of an "
        "asset check, or `<asset>:<check>` where several have that name.",
    )
    strategy: Strategy | None = Field(default=None, description="Absent: `retrain.strategy`.")
    action: Action | None = Field(default=None, description="Absent: `retrain.action`.")

    @field_validator("when")
    @classmethod
    def _triggers_are_known(cls, when: str | None) -> str | None:
        if when is None:
            return None
        for name in _split(when):
            if name not in get_args(Trigger):
                raise ValueError(
                    f"{name!r} is not a trigger: choose one of {', '.join(get_args(Trigger))}, or join some by ' + '; "
                    "a check of your own is a rule with the key `check`"
                )
        return " + ".join(_split(when))

    @field_validator("check")
    @classmethod
    def _check_is_no_trigger(cls, check: str | None) -> str | None:
        if check in get_args(Trigger):
            raise ValueError(f"{check!r} is a trigger: write it without `check:`, or your own check as `<asset>:{check}`")
        return check

    @model_validator(mode="after")
    def _has_a_reason(self) -> Self:
        if not self.when and not self.check:
            raise ValueError("a rule needs `when` or `check`: name a trigger, or a check of your own")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The triggers that have to be there at once, in their order; a check of the user's own is one of them."""
        return (*(_split(self.when) if self.when else ()), *((self.check,) if self.check else ()))

    @property
    def triggers(self) -> frozenset[str]:
        """The triggers that have to be there at once."""
        return frozenset(self.names)


class PaybackSpec(Strict):
    """When a promotion is judged by what came after it, and how retrains that do not pay slow the next ones down."""

    window: Duration = span("14d", "Least span of as-of time after a promotion before it is judged.")
    min_rows: int = Field(default=200, ge=20, description="Labelled rows of that time to wait for.")
    patience: Duration = span("90d", "After so long a promotion is judged by the rows that there are.")
    confidence: float = Field(default=0.9, ge=0.5, lt=1, description="Of the interval around the gain.")
    min_gain: float = Field(
        default=0.02,
        ge=0,
        description="Share of the replaced model's skill over the dummy that has to be gained; an interval wholly below it "
        "did not pay.",
    )
    slower_after: int = Field(
        default=2, ge=1, description="So many retrains in a row that did not pay lengthen the cooldown."
    )
    slower_by: float = Field(default=2.0, ge=1, description="Times the cooldown, for the last of those and for each more.")
    slower_at_most: float = Field(default=8.0, ge=1, description="Times the cooldown, at most.")
    longest: Duration = span("30d", "No cooldown is lengthened beyond this; one that is declared longer stays as it is.")
    shortest: Duration | None = Field(
        default=None,
        description="While retrains pay, the cooldown is divided by the same rules, down to this. Absent: it stays.",
    )


class RetrainSpec(Strict):
    """The policy: what starts a retrain (trigger), what is trained then (strategy), and how often (limits)."""

    # Not `on`: plain YAML reads that key as true.
    triggers: tuple[RetrainRule, ...] = Field(
        default=tuple(RetrainRule(when=name) for name in ("quality", "prediction_drift", "model_age")),
        description="Any of these starts one: names of triggers, or rules with the keys below.",
    )
    strategy: Strategy = Field(
        default="changed_segments",
        description="Train the segments that ask for it, the whole line (`full`), or those on the newest `window` only.",
    )
    action: Action = Field(default="retrain", description="`alert_only` raises the cause to a person and starts nothing.")
    window: Duration | None = Field(default=None, description="With `sliding_window`: the span before the holdout.")
    new_rows: RowsOrShare | None = Field(
        default=None,
        description="With the trigger `new_rows`: labelled since training, a number, or a share such as `5%` of those "
        "that could be learnt from.",
    )
    schedule: str | None = Field(default=None, description="With the trigger `schedule`: five cron fields, in UTC.")
    confirm: int = Field(default=1, ge=1, description="States of the data in a row on which a check has to fail.")
    cooldown: Duration = span("24h", "Least time between two retrains of a segment, by the factory clock.")
    max_attempts: int = Field(default=3, ge=1, description="Tries for one cause before it is raised to a person.")
    backoff: Duration = span("10m", "Wait after a failed attempt, by the wall clock; doubles with each.")
    payback: PaybackSpec = PaybackSpec()
    timeout: Duration = span("4h", "A requested retrain without an answer after this long is stopped, by the wall clock.")

    @field_validator("triggers", mode="before")
    @classmethod
    def _names_are_rules(cls, rules: Any) -> Any:
        return (
            [{"when": rule} if isinstance(rule, str) else rule for rule in rules]
            if isinstance(rules, list | tuple)
            else rules
        )

    @model_validator(mode="after")
    def _keys_go_with_their_triggers(self) -> Self:
        named = {trigger for rule in self.triggers for trigger in rule.triggers}
        for key in ("new_rows", "schedule"):
            if (key in named) != (getattr(self, key) is not None):
                raise ValueError(f"the trigger {key!r} and the key {key!r} go together: declare both or neither")
        slides = "sliding_window" in {self.strategy, *(rule.strategy for rule in self.triggers)}
        if slides != (self.window is not None):
            raise ValueError("the strategy 'sliding_window' and the key 'window' go together: declare both or neither")
        return self

    def least_new_rows(self, learnable: int) -> int | None:
        """How many new labelled rows are enough when `learnable` could be learnt from; None without the key."""
        if not isinstance(self.new_rows, str):
            return self.new_rows
        return max(1, math.ceil(learnable * float(self.new_rows.removesuffix("%")) / 100))

    @property
    def named_triggers(self) -> tuple[str, ...]:
        """Every trigger of the policy, once, in the order of its rules."""
        return tuple(dict.fromkeys(name for rule in self.triggers for name in rule.names))

    @property
    def own_checks(self) -> tuple[str, ...]:
        """The checks of the user's own that rules name, once each."""
        return tuple(dict.fromkeys(rule.check for rule in self.triggers if rule.check))
