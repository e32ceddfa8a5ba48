"""Runs in an environment of its own: Evidently's drift of some segments, one after another. Prints JSON.

python evidently_side.py REFERENCE.parquet CURRENT.parquet SEGMENT ...
"""

import json
import sys
import time

import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.presets import DataDriftPreset


def main() -> None:
    """Times each segment's report and gives its drifts by column."""
    reference, current = (pd.read_parquet(path) for path in sys.argv[1:3])
    features = [name for name in reference.columns if name.startswith("f")]
    definition = DataDefinition(numerical_columns=features)
    seconds, values = [], {}
    for segment in sys.argv[3:]:
        pair = [frame.loc[frame["segment"] == segment, features] for frame in (current, reference)]
        started = time.perf_counter()
        sides = [Dataset.from_pandas(frame, data_definition=definition) for frame in pair]
        result = Report([DataDriftPreset()]).run(*sides).dict()
        seconds.append(time.perf_counter() - started)
        values[segment] = {
            metric["config"]["column"]: float(metric["value"])
            for metric in result["metrics"]
            if "column" in metric.get("config", {})
        }
    json.dump({"seconds": seconds, "values": values}, sys.stdout)


if __name__ == "__main__":
    main()
