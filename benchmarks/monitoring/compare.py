"""The replay: champions trained every eight weeks, watched for twelve, and judged by what really followed."""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console

from benchmarks.drift.peers import run_peer
from benchmarks.figures import Figure
from benchmarks.monitoring.models import DAY, Model, as_day, read_rows, train_model
from benchmarks.monitoring.ours import CHECKS, PREDICTION, STRICT, judge_days, judge_quality
from benchmarks.monitoring.truth import SPAN_DAYS, Truth, find_truth
from benchmarks.monitoring.year import build_year, read_lines
from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.core.quality import ScoredRows
from factory_assets.core.time_split import LABEL

LINES = ("departure_volume", "flight_delay_fleet", "arrival_delay")
_FIRST = as_day(datetime(2013, 4, 1, tzinfo=UTC))
_END = as_day(datetime(2014, 1, 1, tzinfo=UTC))
_CHAMPION_EVERY, _WATCHED_DAYS, _LOOK_EVERY = 56, 84, 7
# A check that stays failed asks again after the demo's cooldown; a request is right when a loss begins within four weeks.
_COOLDOWN, _AHEAD = 21, 28
_RULES: dict[str, tuple[str, ...]] = {
    "ours, all checks": CHECKS,
    "ours, drift of features and scores": ("feature_drift", "prediction_drift"),
    "ours, quality and its estimate": ("quality", "estimated_quality"),
    **{f"ours, {check} alone": (check,) for check in (*CHECKS, STRICT)},
}
_PEERS = {
    "preset": "Evidently's preset: half of the columns",
    "any_column": "Evidently's tests: any column",
    "ks": "KS p < 0.05 in any feature",
}


@dataclass
class Watch:
    """One champion's service: the days on which each rule alarms, and what the weeks that followed really were."""

    line: str
    champion: Model
    days: range
    truths: list[Truth]
    alarms: dict[str, list[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Score:
    """How a rule did: requests a month of service, the share of them that preceded a loss, losses found, days ahead."""

    monthly: float
    precision: float
    recall: float
    lead_days: float
    requests: int
    recall_at_all: float


def measure_monitoring_year(console: Console, rounds: int) -> list[Figure]:
    """All figures. The year is one and everything is seeded, so one round says all."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        console.print("making the features of the year ...")
        lake = build_year(folder)
        watches: list[Watch] = []
        estimates: list[tuple[float, float, float]] = []
        for spec in read_lines(LINES):
            rows = read_rows(lake, spec)
            models = {day: train_model(spec, rows, day) for day in range(_FIRST, _END - SPAN_DAYS + 1, SPAN_DAYS)}
            own = list(_watch(spec, rows, models))
            for watch in own:
                failed = judge_days(spec, rows, watch.champion, watch.days)
                watch.alarms |= {rule: sorted({d for c in checks for d in failed[c]}) for rule, checks in _RULES.items()}
                console.print(f"{spec.name} {watch.champion.day}: { {c: len(d) for c, d in failed.items()} }")
            _ask_evidently(folder, spec, rows, own)
            if spec.task == "classification":
                estimates += _compare_estimates(folder, spec, rows, own)
            watches += own
    return [*_figures(console, watches), *(_estimate_figures(estimates) if estimates else [])]


def _watch(spec: ModelLineSpec, rows: pd.DataFrame, models: Mapping[int, Model]) -> Iterator[Watch]:
    for day in list(models)[:: _CHAMPION_EVERY // SPAN_DAYS]:
        end = min(day + _WATCHED_DAYS, max(models))
        later = [d for d in models if day < d <= end]
        if later:
            truths = [find_truth(spec.metric, rows, models[day], models[d]) for d in later]
            yield Watch(spec.name, models[day], range(day + _LOOK_EVERY, end + 1, _LOOK_EVERY), truths)


def _ask_evidently(folder: Path, spec: ModelLineSpec, rows: pd.DataFrame, watches: Sequence[Watch]) -> None:
    """The same features, days and windows; the training span as reference."""
    first = watches[0].champion
    ignored = set(spec.drift.ignore)
    numeric, text = ([n for n in names if n not in ignored] for names in (first.numeric, first.categorical))
    path = folder / f"{spec.name}.parquet"
    rows[[DAY, *numeric, *text]].to_parquet(path)
    champions = []
    for watch in watches:
        days = rows.loc[watch.champion.train, DAY]
        champions.append({"first": int(days.min()), "end": int(days.max()) + 1, "days": list(watch.days)})
    job = {"rows": str(path), "numeric": numeric, "text": text, "window": spec.drift.window.days, "champions": champions}
    (folder / "job.json").write_text(json.dumps(job))
    found = run_peer(folder, Path(__file__).with_name("evidently_days.py"), [str(folder / "job.json")])
    for watch, alarms in zip(watches, found["champions"], strict=True):
        watch.alarms |= {title: alarms[rule] for rule, title in _PEERS.items()}


def score_rule(watches: Sequence[Watch], rule: str) -> Score:
    """Requests after a cooldown, and what they were worth.

    A request is right when a real loss is there within four weeks of it. A loss (a run of fortnights) is found when a
    request comes in the four weeks before it begins or in its first week, at all when one comes before it ends; the
    lead is counted to the day on which the labels of its first fortnight are complete.
    """
    requests = right = losses = found = at_all = 0
    leads: list[int] = []
    served = sum(len(watch.days) * _LOOK_EVERY for watch in watches)
    for watch in watches:
        asked = _cool_down(watch.alarms[rule])
        requests += len(asked)
        right += sum(
            any(truth.is_loss and day <= truth.day + 6 and truth.day <= day + _AHEAD for truth in watch.truths)
            for day in asked
        )
        for start, end in _loss_spans(watch.truths):
            losses += 1
            at_all += any(start - _AHEAD <= day < end for day in watch.alarms[rule])
            ahead = [day for day in watch.alarms[rule] if start - _AHEAD <= day <= start + 6]
            if ahead:
                found += 1
                leads.append(start + SPAN_DAYS - ahead[0])
    return Score(
        monthly=30 * requests / served,
        precision=right / requests if requests else float("nan"),
        recall=found / losses if losses else float("nan"),
        lead_days=float(np.median(leads)) if leads else float("nan"),
        requests=requests,
        recall_at_all=at_all / losses if losses else float("nan"),
    )


def _cool_down(days: Sequence[int]) -> list[int]:
    asked: list[int] = []
    for day in days:
        if not asked or day - asked[-1] >= _COOLDOWN:
            asked.append(day)
    return asked


def _loss_spans(truths: Sequence[Truth]) -> list[tuple[int, int]]:
    """The first day of each run of fortnights with a loss, and the day after its last."""
    spans: list[tuple[int, int]] = []
    for truth in truths:
        if truth.is_loss and spans and spans[-1][1] == truth.day:
            spans[-1] = (spans[-1][0], truth.day + SPAN_DAYS)
        elif truth.is_loss:
            spans.append((truth.day, truth.day + SPAN_DAYS))
    return spans


def _figures(console: Console, watches: Sequence[Watch]) -> list[Figure]:
    truths = [truth for watch in watches for truth in watch.truths]
    losses = sum(len(_loss_spans(watch.truths)) for watch in watches)
    named = ", ".join(dict.fromkeys(watch.line for watch in watches))
    how = (
        f"{len(watches)} champions of {named}, trained every eight weeks on the flights of 2013, looked at each week for up "
        f"to {_WATCHED_DAYS} days; a loss: worse than on its holdout, and worse than a model of that day, each beyond a "
        "one-sided 95%"
    )
    figures = [
        Figure("fortnights with a real loss", 100 * sum(t.is_loss for t in truths) / len(truths), "%", how, is_detail=True),
        Figure(
            "fortnights worse than on the holdout",
            100 * sum(t.worse for t in truths) / len(truths),
            "%",
            how,
            is_detail=True,
        ),
        Figure("losses that begin", losses, "losses", how, is_detail=True),
    ]
    scores = {rule: score_rule(watches, rule) for rule in (*_RULES, *_PEERS.values())}
    ours, theirs = scores["ours, all checks"], [scores[rule] for rule in _PEERS.values()]
    for name, mine, others in (
        ("precision", ours.precision, [score.precision for score in theirs]),
        ("recall", ours.recall, [score.recall for score in theirs]),
    ):
        ahead = 100 * (mine - float(np.nanmax(others)))
        figures.append(Figure(f"{name}: ours less the best of the usual rules", ahead, "points", how, "above 0", ahead > 0))
    for rule, score in scores.items():
        console.print(f"{rule}: {score}")
        detail = rule not in ("ours, all checks", *_PEERS.values())
        for name, value, unit in (
            ("retrains asked for a month", score.monthly, "retrains"),
            ("of them before a real loss (precision)", 100 * score.precision, "%"),
            ("losses found by their first week (recall)", 100 * score.recall, "%"),
            ("losses found before they end", 100 * score.recall_at_all, "%"),
            ("days ahead of complete labels, median", score.lead_days, "d"),
        ):
            if np.isfinite(value):
                figures.append(Figure(f"{rule}: {name}", value, unit, how, is_detail=detail))
    return figures


def _compare_estimates(
    folder: Path, spec: ModelLineSpec, rows: pd.DataFrame, watches: Sequence[Watch]
) -> list[tuple[float, float, float]]:
    """Of each fortnight: the area that came true, our estimate of it without labels, and NannyML's."""
    parts, known = [], {}
    for number, watch in enumerate(watches):
        frame = rows.assign(**{PREDICTION: watch.champion.scores})
        parts.append(_part(frame.loc[watch.champion.holdout], number, -1))
        for place, truth in enumerate(watch.truths):
            chosen = frame[(frame[DAY] >= truth.day) & (frame[DAY] < truth.day + SPAN_DAYS) & frame[LABEL].notna()]
            parts.append(_part(chosen, number, place))
            scored = ScoredRows(chosen[PREDICTION].to_numpy(), np.full(len(chosen), np.nan), chosen[DAY].to_numpy())
            report = judge_quality(spec, watch.champion, scored, 0.01, labelled=False)
            known[number, place] = (truth.realised, report.expected)
    path = folder / f"{spec.name}-scores.parquet"
    pd.concat(parts).to_parquet(path)
    theirs: dict[str, dict[str, float]] = run_peer(
        folder, Path(__file__).with_name("nannyml_side.py"), [str(path)], "nannyml"
    )
    return [(true, ours, theirs[str(n)][str(p)]) for (n, p), (true, ours) in known.items()]


def _part(frame: pd.DataFrame, champion: int, part: int) -> pd.DataFrame:
    return pd.DataFrame(
        {"champion": champion, "part": part, "score": frame[PREDICTION].to_numpy(), "label": frame[LABEL].to_numpy()}
    )


def _estimate_figures(estimates: Sequence[tuple[float, float, float]]) -> list[Figure]:
    true, ours, theirs = (np.array(column) for column in zip(*estimates, strict=True))
    how = f"roc_auc of {len(true)} fortnights of lines that classify, estimated without labels, against what came true"
    figures = []
    for name, found in (("ours", ours), ("NannyML's CBPE", theirs)):
        gap = found - true
        figures.append(Figure(f"estimated quality, {name}: bias", float(gap.mean()), "area", how))
        figures.append(Figure(f"estimated quality, {name}: RMSE", float(np.sqrt(np.mean(gap**2))), "area", how))
    return figures
