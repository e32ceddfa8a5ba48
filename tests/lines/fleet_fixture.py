"""A small lake for a fleet: two carriers of two routes each, whose labels obey different rules, and some odd segments."""

from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.storage.delta.lake import Lake, TableSpec
from tests.declared_lines import THING_LINE
from tests.lines.conftest import START

DAYS = 60
EACH_DAY = 16
# By route, how `x` decides the label: the routes of AA differ, those of UA are alike, so UA's own model is good enough.
RULES = {"AA~r1": 3.0, "AA~r2": -3.0, "UA~r1": 1.0, "UA~r2": 1.0}
FLEET: dict[str, Any] = {
    **THING_LINE,
    "features": ["x", "noise"],
    "validation": {"holdout": "16d", "min_rows": 50},
    "segment_by": ["carrier", "route"],
    "parents": [["carrier"]],
    "segments": {"min_rows": 40, "confidence": 0.9},
    "executor": "serial",
}


def fleet_spec(**changes: Any) -> ModelLineSpec:
    return ModelLineSpec.model_validate({**FLEET, **changes})


def write_fleet(lake: Lake, days: int = DAYS, changed: str = "", moved: float = 0.0) -> None:
    """Rows of every route each day; `changed` has other values of `x` on its first day, `moved` is added to all."""
    random = np.random.default_rng(3)
    rows = []
    for key, rule in RULES.items():
        carrier, route = key.split("~")
        count = DAYS * EACH_DAY
        x = random.normal(size=count)
        late = (random.uniform(size=count) < 1 / (1 + np.exp(-rule * x))).astype(float)
        noise = random.normal(size=count)
        for place in range(days * EACH_DAY):
            at = START + timedelta(days=place // EACH_DAY, minutes=place % EACH_DAY)
            value = x[place] + moved + (1.0 if key == changed and place < EACH_DAY else 0.0)
            rows.append((f"{key}-{place}", at, carrier, route, value, noise[place], late[place]))
    for place in range(20):
        at = START + timedelta(days=place)
        rows.append((f"tiny-{place}", at, "ZZ", "a/b", 0.5, 0.0, float(place % 2)))
    for place in range(60):
        at = START + timedelta(days=place % days, minutes=30)
        rows.append((f"constant-{place}", at, "UA", "always late", 0.1, 0.0, 1.0))
    stamp = pa.timestamp("us", tz="UTC")
    ids, at, carrier, route, x_column, noise_column, label_column = zip(*rows, strict=True)
    features = pa.table(
        {
            "id": list(ids),
            "at": pa.array(at, stamp),
            "carrier": list(carrier),
            "route": list(route),
            "x": list(x_column),
            "noise": list(noise_column),
        }
    )
    known = pa.array([moment + timedelta(hours=1) for moment in at], stamp)
    labels = pa.table({"id": list(ids), "late": list(label_column), "known_at": known})
    lake.replace(TableSpec("features/feat_thing", features.schema, ("id",)), features)
    lake.replace(TableSpec("marts/fct_thing", labels.schema, ("id",)), labels)


def read_fleet(stores: Any, outcome: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What may not depend on where a fleet was fitted: the bytes and values of its models, and the decisions on them."""
    rows = stores.lake.query(
        "select segment, artefact_sha256, value, artefact_path from t order by all", t=stores.lake.pin("ops/model_versions")
    )
    return rows.to_pylist(), [{**row, "version": 0, "cycle": ""} for row in outcome.decisions]


def write_later(
    lake: Lake,
    days: int = 14,
    moved: Mapping[str, float] | None = None,
    turned: Collection[str] = (),
    all_late: Collection[str] = (),
) -> None:
    """Rows of every route on the days after `write_fleet`'s, drawn by the same rules.

    `moved` is added to a route's `x` once its labels are drawn; the labels of routes in `turned` are the opposite, and
    in `all_late` all but one in ten are late.
    """
    random = np.random.default_rng(5)
    tables = {name: lake.query("select * from t", t=lake.pin(name)) for name in ("features/feat_thing", "marts/fct_thing")}
    features, labels = tables.values()
    for key, rule in RULES.items():
        carrier, route = key.split("~")
        count = days * EACH_DAY
        at = [START + timedelta(days=DAYS + n // EACH_DAY, minutes=n % EACH_DAY) for n in range(count)]
        ids = [f"{key}-{n}-later" for n in range(count)]
        x, chance = random.normal(size=count), random.uniform(size=count)
        late = (chance < (0.9 if key in all_late else 1 / (1 + np.exp(-rule * x)))) != (key in turned)
        rows = {
            "id": ids,
            "at": pa.array(at, features.schema.field("at").type),
            "carrier": [carrier] * count,
            "route": [route] * count,
            "x": x + (moved or {}).get(key, 0.0),
            "noise": random.normal(size=count),
        }
        known = pa.array([moment + timedelta(hours=1) for moment in at], labels.schema.field("known_at").type)
        features = pa.concat_tables([features, pa.table(rows).cast(features.schema)])
        told = pa.table({"id": ids, "late": late.astype(float), "known_at": known})
        labels = pa.concat_tables([labels, told.cast(labels.schema)])
    for name, table in zip(tables, (features, labels), strict=True):
        lake.replace(TableSpec(name, table.schema, ("id",)), table)
