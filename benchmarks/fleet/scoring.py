"""Scores every flight of the year by one model for each scheduled flight: the factory's one pass, and a bare loop.

`python -m benchmarks.fleet.scoring FOLDER SEGMENTS ESTIMATOR`. Both sides start from the same pickled models and the same
rows in memory, in the order in which they came; the factory checks each hash, and both return one score a row.
"""

import pickle
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from threadpoolctl import threadpool_limits

from benchmarks.fleet.work import FEATURES, KEYS, LEAST_FLIGHTS, Estimator, Work, read_flights
from benchmarks.loop.meter import Meter
from factory_assets.contracts.segments import ALL
from factory_assets.core.models.artefacts import PackedModel, pack_model, pickle_model, unpack_payload, unpickle_model
from factory_assets.core.models.estimators import build_estimator
from factory_assets.core.segments import segment_keys
from factory_assets.core.serving.fleet_scoring import ServingModel, score_fleet

_ROUNDS = 5


def main(folder: str, segments: str, estimator: Estimator) -> None:
    """Measures both sides by turns in one process, and holds their scores against each other."""
    work, meter = Work(Path(folder), int(segments), estimator), Meter()
    flights = read_flights()
    flights = flights.take(pa.array(np.random.default_rng(0).permutation(flights.num_rows)))
    with threadpool_limits(limits=1):
        models = _fit_models(work, flights)
        times: dict[str, list[tuple[float, float]]] = {"factory": [], "bare": []}
        for _ in range(_ROUNDS):
            for side, score in (("factory", _score_factory), ("bare", _score_bare)):
                wall, cpu = time.perf_counter(), time.process_time()
                scores = score(work, flights, models)
                times[side].append((time.perf_counter() - wall, time.process_time() - cpu))
                meter.facts[f"{side} mean score"] = float(np.nanmean(scores))
    assert np.isclose(meter.facts["factory mean score"], meter.facts["bare mean score"], atol=1e-12)
    for side, spent in times.items():
        meter.add(side, "total", statistics.median(wall for wall, _ in spent), statistics.median(cpu for _, cpu in spent))
    meter.facts |= {"rows": flights.num_rows, "models": len(models)}
    meter.save(work.folder / "scoring.json")


def _fit_models(work: Work, flights: pa.Table) -> dict[str, PackedModel]:
    """One small model for each segment with more than LEAST_FLIGHTS arrivals, and one of all rows for the others."""
    labelled = flights.filter(pc.is_valid(flights["late"]))
    frame = labelled.select(["late", *FEATURES]).to_pandas()
    keys = segment_keys(labelled, KEYS)
    order = np.argsort(keys.indices.to_numpy(), kind="stable")
    counts = np.bincount(keys.indices.to_numpy(), minlength=len(keys.dictionary))
    ends = np.cumsum(counts)
    rows_of = {ALL: np.arange(len(frame))[:5000]}
    for place, key in enumerate(keys.dictionary.to_pylist()):
        if counts[place] > LEAST_FLIGHTS:
            rows_of[key] = order[ends[place] - counts[place] : ends[place]]
    spec, models = work.spec, {}
    for key, rows in rows_of.items():
        train = frame.iloc[rows].fillna(0.0)
        model = build_estimator(spec.estimator, spec.params, FEATURES, [], 0).fit(train[list(FEATURES)], train["late"])
        models[key] = pack_model(pickle_model(model))
    return models


def _score_factory(work: Work, flights: pa.Table, models: dict[str, PackedModel]) -> np.ndarray:
    serving = {key: ServingModel(key, packed.sha256, FEATURES, ()) for key, packed in models.items()}

    def load(model: ServingModel) -> Any:
        return unpickle_model(unpack_payload(models[model.segment], model.segment), model.sha256)

    return score_fleet(flights, work.spec.levels, serving, load, "classification").scores


def _score_bare(work: Work, flights: pa.Table, models: dict[str, PackedModel]) -> np.ndarray:
    """What a notebook does: a group-by over the keys, and one predict a group."""
    frame = flights.select([*KEYS, *FEATURES]).to_pandas()
    values = frame[list(FEATURES)].to_numpy(dtype=np.float64)
    scores, loaded = np.full(len(frame), np.nan), {key: _unpack(packed) for key, packed in models.items()}
    rest = []
    for group, rows in frame.groupby(list(KEYS), sort=False, observed=True).indices.items():
        model = loaded.get("~".join(group))
        if model is None:
            rest.append(rows)
        else:
            scores[rows] = model.predict_proba(values[rows])[:, 1]
    others = np.concatenate(rest)
    scores[others] = loaded[ALL].predict_proba(values[others])[:, 1]
    return scores


def _unpack(packed: PackedModel) -> Any:
    """The last step alone: a bare script has no pipeline around it."""
    return pickle.loads(unpack_payload(packed, "")).named_steps["model"]


if __name__ == "__main__":
    main(*sys.argv[1:])  # type: ignore[arg-type]
