"""The files of a cycle's MLflow run that list its segments: what became of each, and what each search tried."""

import csv
import io
import json
from collections.abc import Mapping

from factory_assets.contracts.fleet import NodeDecision
from factory_assets.core.models.artefacts import AnyModel
from factory_assets.core.training.fit import TrainedModel


def write_outcomes(decisions: Mapping[str, NodeDecision]) -> dict[str, bytes]:
    """One line a segment of this cycle that was trained or failed, to be looked through beside the run."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["segment", "outcome", "promoted", "serves", "value", "champion_value", "parent_value", "reason"])
    for segment, decision in sorted(decisions.items()):
        if decision.outcome in ("fitted", "failed"):
            values = (decision.challenger_value, decision.champion_value, decision.parent_value)
            shown = ["" if value is None else f"{value:.6g}" for value in values]
            writer.writerow([segment, decision.outcome, decision.promote, decision.serves, *shown, decision.reason])
    return {"segments.csv": text.getvalue().encode()}


def write_searches(fitted: Mapping[str, tuple[TrainedModel, AnyModel]]) -> dict[str, bytes]:
    """Every candidate of every segment's search with its values, the winner marked; the model of all rows is a segment."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["segment", "candidate", "params", "metric", "value", "values", "won", "error"])
    searches = {segment: trained.search for segment, (trained, _) in sorted(fitted.items()) if trained.search}
    for segment, search in searches.items():
        for place, trial in enumerate(search.trials):
            params, values = json.dumps(dict(trial.params)), json.dumps(trial.values)
            won = place == search.winner
            writer.writerow([segment, place, params, search.metric, trial.value, values, won, trial.error])
    return {"searches.csv": text.getvalue().encode()} if searches else {}
