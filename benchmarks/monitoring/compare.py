"""The replay: champions trained every fortnight, watched day by day for twelve weeks, and judged by what really followed."""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console

from benchmarks.drift.peers import run_peer
from benchmarks.figures import Figure
from benchmarks.monitoring.models import DAY, Model, as_day, at_look, read_rows, train_model
from benchmarks.monitoring.ours import CHECKS, PREDICTION, judge_days, judge_quality
from benchmarks.monitoring.scoring import QUIET, Watch, loss_spans, score_rule
from benchmarks.monitoring.truth import SPAN_DAYS, find_truths
from benchmarks.monitoring.year import build_year, read_lines
from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.contracts.retrain_policy import RetrainSpec
from factory_assets.core.monitoring.quality import ScoredRows
from factory_assets.core.training.time_split import LABEL

LINES = ("departure_volume", "flight_delay_fleet", "arrival_delay")
_FIRST = as_day(datetime(2013, 4, 1, tzinfo=UTC))
_END = as_day(datetime(2014, 1, 1, tzinfo=UTC))
_WATCHED_DAYS = 84
OURS = "ours, what retrains by default"
_TRIGGERS = RetrainSpec().named_triggers
_RULES: dict[str, tuple[str, ...]] = {
    OURS: tuple(check for check in CHECKS if check in _TRIGGERS),
    **{f"ours, {check} alone": (check,) for check in CHECKS},
}
_PEERS = {
    "preset": "Evidently's preset: half of the columns",
    "any_column": "Evidently's tests: any column",
    "ks": "KS p < 0.05 in any feature",
}


def measure_monitoring_year(console: Console, rounds: int) -> list[Figure]:
    """All figures. The year is one and everything is seeded, so one round says all."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        console.print("making the features of the year ...")
        lake = build_year(folder)
        watches: list[Watch] = []
        estimates: list[tuple[float, float, float]] = []
        for declared in read_lines(LINES):
            spec = declared.model_copy(update={"retrain": RetrainSpec()})
            rows = read_rows(lake, spec)
            models = {}
            for day in range(_FIRST, _END - SPAN_DAYS + 1, SPAN_DAYS):
                models[day] = train_model(spec, rows, day)
                console.print(f"{spec.name}: trained on {at_look(day):%d %B}")
            own = list(_watch(spec, rows, models))
            for place, watch in enumerate(own, 1):
                failed = judge_days(spec, rows, watch.champion, watch.days)
                watch.failed |= {rule: sorted({d for c in checks for d in failed[c]}) for rule, checks in _RULES.items()}
                counts = ", ".join(f"{check} {len(days)}" for check, days in failed.items())
                console.print(
                    f"{spec.name}: champion {place} of {len(own)}, {len(watch.days)} days, of which fail: {counts}"
                )
            console.print(f"{spec.name}: the same days by the usual rules ...")
            _ask_evidently(folder, spec, rows, own)
            if spec.task == "classification":
                estimates += _compare_estimates(folder, spec, rows, own[::4])
            watches += own
    return [*_figures(console, watches), *(_estimate_figures(estimates) if estimates else [])]


def _watch(spec: ModelLineSpec, rows: pd.DataFrame, models: Mapping[int, Model]) -> Iterator[Watch]:
    for day in models:
        end = min(day + _WATCHED_DAYS, max(models))
        later = [d for d in models if day < d <= end]
        if later:
            truths = find_truths(spec.metric, rows, models[day], [models[d] for d in later])
            yield Watch(spec.name, models[day], range(day + 1, end + 1), truths)


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
        watch.failed |= {title: alarms[rule] for rule, title in _PEERS.items()}


def _figures(console: Console, watches: Sequence[Watch]) -> list[Figure]:
    named = list(dict.fromkeys(watch.line for watch in watches))
    how = (
        f"{len(watches)} champions of {', '.join(named)}, trained every fortnight on the flights of 2013, looked at every "
        f"day for up to {_WATCHED_DAYS} days, {sum(len(watch.days) for watch in watches):,} looks; what fails again within "
        f"{QUIET} days is the same alarm, whoever gives it; a loss: worse than on its holdout, and worse than a model of "
        "that day, each beyond a one-sided 95%"
    )
    truths = [truth for watch in watches for truth in watch.truths]
    losses = sum(len(loss_spans(watch.truths)) for watch in watches)
    figures = [
        Figure("fortnights with a real loss", 100 * sum(t.is_loss for t in truths) / len(truths), "%", how, is_detail=True),
        Figure("losses that begin", losses, "losses", how, is_detail=True),
    ]
    rules = (*_RULES, *_PEERS.values())
    scores = {rule: score_rule(watches, rule)[0] for rule in rules}
    for name in ("precision", "recall", "informedness"):
        theirs = [scores[rule][name] for rule in _PEERS.values()]
        ahead = scores[OURS][name] - float(np.nanmax(theirs))
        title = f"{name}: ours ahead of the best of the usual rules"
        figures.append(Figure(title, ahead, "points", how, "above 0", ahead > 0))
    for part in ("all", *named):
        chosen = [watch for watch in watches if part in ("all", watch.line)]
        for rule in rules:
            found, intervals = score_rule(chosen, rule)
            console.print(f"{part} {rule}: { {name: round(value, 2) for name, value in found.items()} }")
            for name, value in found.items():
                if np.isfinite(value):
                    low, high = intervals.get(name, (np.nan, np.nan))
                    spread = f"; 90% of redrawn services: {low:.3g} to {high:.3g}" if np.isfinite(low) else ""
                    unit = "a month" if "a month" in name else "d" if "days" in name else "%"
                    detail = part != "all" or rule not in (OURS, *_PEERS.values())
                    figures.append(Figure(f"{part}: {rule}: {name}", value, unit, how + spread, is_detail=detail))
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
