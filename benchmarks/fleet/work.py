"""The work of both sides: a lake with real flights by scheduled flight, and beyond those, jittered copies of them."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from factory_assets.contracts.model_line import ModelLineSpec
    from factory_assets.lines.stores import LineStores

Estimator = Literal["trees", "small_trees", "logistic", "unlisted_trees"]
LINE = "flight_fleet"
FEATURE_SET = f"features/feat_{LINE}"
LABELS = f"marts/fct_{LINE}"
KEYS = ("carrier", "flight_number", "origin", "destination")
FEATURES = (
    *("departure_hour", "day_of_week", "day_of_year", "distance_miles", "scheduled_minutes"),
    *("temperature", "dewpoint", "humidity", "wind_speed", "wind_gust", "visibility", "pressure"),
)
HOLDOUT = timedelta(days=60)
NOW = datetime(2014, 1, 2, tzinfo=UTC)
# The segments of the demo: more than a hundred flights in the year.
LEAST_FLIGHTS = 100
ESTIMATORS: dict[Estimator, tuple[str, dict[str, Any]]] = {
    # The defaults. Early stopping would start at ten thousand rows, and part them by their order.
    "trees": ("sklearn.ensemble.HistGradientBoostingClassifier", {"early_stopping": False}),
    "small_trees": (
        "sklearn.ensemble.HistGradientBoostingClassifier",
        {"max_iter": 50, "max_leaf_nodes": 8, "early_stopping": False},
    ),
    # As `trees`, without an entry in MLflow for each segment.
    "unlisted_trees": ("sklearn.ensemble.HistGradientBoostingClassifier", {"early_stopping": False}),
    "logistic": ("sklearn.linear_model.LogisticRegression", {}),
}
_FLIGHTS = """
select
    f.carrier || f.flight || '-' || f.origin || f.dest || '-' || f.flight_day as flight_id,
    f.time_hour::timestamptz + to_minutes(f.minute::int) as scheduled_utc,
    f.carrier, f.flight as flight_number, f.origin, f.dest as destination,
    f.hour::double as departure_hour,
    isodow(f.flight_day)::double as day_of_week,
    dayofyear(f.flight_day)::double as day_of_year,
    f.distance::double as distance_miles,
    (f.sched_arr_time::int // 100 * 60 + f.sched_arr_time::int % 100)::double as scheduled_minutes,
    w.temp::double as temperature, w.dewp::double as dewpoint, w.humid::double as humidity,
    w.wind_speed::double as wind_speed,
    w.wind_gust::double as wind_gust, w.visib::double as visibility, w.pressure::double as pressure,
    (f.arr_delay::double > 15)::double as late
from flights as f
left join weather as w on w.origin = f.origin and w.time_hour = f.time_hour
qualify row_number() over (partition by flight_id order by scheduled_utc) = 1
order by f.carrier, f.flight, f.origin, f.dest, scheduled_utc
"""


@dataclass(frozen=True)
class Work:
    """A folder with a lake, ready for a cycle of `segments` segments."""

    folder: Path
    segments: int
    estimator: Estimator

    @property
    def spec(self) -> "ModelLineSpec":
        """The declaration of the fleet."""
        from factory_assets.contracts.model_line import ModelLineSpec

        estimator, params = ESTIMATORS[self.estimator]
        return ModelLineSpec.model_validate(
            {
                "name": LINE,
                "feature_set": f"feat_{LINE}",
                "entity": ["flight_id"],
                "as_of": "scheduled_utc",
                "features": list(FEATURES),
                "label": {"model": f"fct_{LINE}", "column": "late", "known_at": "known_utc"},
                "estimator": estimator,
                "params": params,
                "segment_by": list(KEYS),
                "segments": {"min_rows": 20},
                "validation": {"holdout": f"{HOLDOUT.days}d", "metric": "roc_auc"},
                "mlflow": {"per_segment": "none" if self.estimator == "unlisted_trees" else "changed"},
            }
        )

    def open_stores(self) -> "LineStores":
        """The line on this folder."""
        from factory_assets.lines.stores import LineStores
        from factory_assets.settings import FactorySettings
        from factory_assets.storage.artefact_store import ArtefactStore
        from factory_assets.storage.delta.lake import Lake
        from factory_assets.storage.mlflow.registry import MlflowRegistry

        settings = FactorySettings(data_dir=self.folder)
        registry = MlflowRegistry(settings.mlflow_uri, settings.mlflow_artifacts)
        return LineStores(self.spec, Lake(settings.lake), ArtefactStore(settings.models), registry)


def read_flights() -> pa.Table:
    """Every flight of 2013, sorted by scheduled flight; `late` is null where it was cancelled."""
    from factory_assets.demo.flights import open_flight_data

    data = open_flight_data()
    return data.connection.sql(_FLIGHTS).to_arrow_table()


def pick_segments(flights: pa.Table, count: int) -> pa.Table:
    """The flights of `count` segments: the largest real ones, and where those end, jittered copies of them."""
    labelled = flights.filter(pc.is_valid(flights["late"]))
    sizes = labelled.group_by(list(KEYS)).aggregate([("flight_id", "count")])
    sizes = sizes.filter(pc.greater(sizes["flight_id_count"], LEAST_FLIGHTS))
    sizes = sizes.sort_by([("flight_id_count", "descending"), *((key, "ascending") for key in KEYS)])
    # Copies are of the first thousand, so that ten thousand are ten times as much work as one thousand.
    whole, left = divmod(count, min(count, 1000))
    parts = [_copy(_rows_of(flights, sizes.slice(0, min(count, 1000))), number) for number in range(whole)]
    parts += [_copy(_rows_of(flights, sizes.slice(0, left)), whole)] if left else []
    return pa.concat_tables(parts)


def write_lake(work: Work, flights: pa.Table) -> None:
    """Writes feature set, labels and training set, and an empty MLflow store."""
    from factory_assets.settings import FactorySettings
    from factory_assets.storage.clock import FactoryClock
    from factory_assets.storage.delta.lake import TableSpec

    stores = work.open_stores()
    FactoryClock(FactorySettings(data_dir=work.folder).clock).set(NOW)
    features = flights.drop(["late"])
    stores.lake.replace(TableSpec(FEATURE_SET, features.schema, ("flight_id",)), features)
    known = pc.add(flights["scheduled_utc"], pa.scalar(timedelta(hours=12), pa.duration("us")))
    labels = pa.table({"flight_id": flights["flight_id"], "late": flights["late"], "known_utc": known})
    stores.lake.replace(TableSpec(LABELS, labels.schema, ("flight_id",)), labels)
    stores.training_sets.build(NOW)
    stores.registry.client()


def change_segments(work: Work, flights: pa.Table, count: int, degrees: float) -> list[str]:
    """Gives `count` segments other rows, as a night of late data would, and builds the training set again; names them."""
    from factory_assets.core.segments import segment_key

    keys = flights.group_by(list(KEYS), use_threads=False).aggregate([]).slice(0, count)
    touched = flights.join(keys.append_column("__touched", pa.array([True] * count)), list(KEYS)).sort_by("flight_id")
    shifted = pc.add(touched["temperature"], pc.if_else(pc.is_valid(touched["__touched"]), degrees, 0.0))
    changed = touched.set_column(touched.column_names.index("temperature"), "temperature", shifted).drop(["__touched"])
    write_lake(work, changed.select(flights.column_names))
    return [segment_key([str(row[key]) for key in KEYS]) for row in keys.to_pylist()]


def _rows_of(flights: pa.Table, segments: pa.Table) -> pa.Table:
    found = flights.join(segments.select(list(KEYS)), list(KEYS), join_type="left semi")
    return found.sort_by([(key, "ascending") for key in (*KEYS, "scheduled_utc")])


def _copy(flights: pa.Table, number: int) -> pa.Table:
    """Copy 0 is the real thing; the others have a key and an id of their own and slightly other numbers."""
    if number == 0:
        return flights
    random = np.random.default_rng(number)
    for name in ("flight_id", "flight_number"):
        renamed = pc.binary_join_element_wise(flights[name].cast(pa.string()), f"copy{number}", "-")
        flights = flights.set_column(flights.column_names.index(name), name, renamed)
    for name in ("temperature", "wind_speed", "pressure"):
        values = flights[name].to_numpy() + random.normal(scale=0.5, size=flights.num_rows)
        flights = flights.set_column(flights.column_names.index(name), name, pa.array(values, from_pandas=True))
    return flights
