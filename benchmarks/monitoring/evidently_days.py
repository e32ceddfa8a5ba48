"""Runs in an environment of its own: Evidently's default drift tests and Kolmogorov-Smirnov's over windows. Prints JSON.

python evidently_days.py JOBS.json, with {"rows": parquet, "numeric": [...], "text": [...], "window": days, "champions":
[{"first", "end", "days"}]}: the span of the reference's days, of which at most 20,000 rows are drawn once, and the looks.
"""

import json
import os
import sys
from pathlib import Path

# Threads wait for each other in sums as small as these: on a busy machine a distance took four times as long.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
import pandas as pd
from evidently.legacy.calculations.stattests import get_stattest
from scipy import stats

_MOST_ROWS = 20_000
# The preset's own limit: a data set drifted when half of its columns did.
_SHARE = 0.5


def main() -> None:
    """Of each champion: the days on which each rule alarms."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    rows = pd.read_parquet(job["rows"])
    kinds = dict.fromkeys(job["numeric"], "num") | dict.fromkeys(job["text"], "cat")
    found = []
    for champion in job["champions"]:
        reference = rows[(rows["day"] >= champion["first"]) & (rows["day"] < champion["end"])]
        reference = reference.sample(min(len(reference), _MOST_ROWS), random_state=0)
        alarms: dict[str, list[int]] = {"preset": [], "any_column": [], "ks": []}
        for day in champion["days"]:
            window = rows[(rows["day"] >= day - job["window"]) & (rows["day"] < day)]
            drifted = [_drifted(reference[name].dropna(), window[name].dropna(), kind) for name, kind in kinds.items()]
            if np.mean(drifted) >= _SHARE:
                alarms["preset"].append(day)
            if any(drifted):
                alarms["any_column"].append(day)
            if any(_ks(reference[name], window[name]) < 0.05 for name in job["numeric"]):
                alarms["ks"].append(day)
        found.append(alarms)
    json.dump({"champions": found}, sys.stdout)


def _drifted(reference: pd.Series, current: pd.Series, kind: str) -> bool:
    """By the test and limit that Evidently chooses for a column of that kind and size."""
    if not len(current):
        return False
    test = get_stattest(reference, current, kind, None)
    return bool(test(reference, current, kind, test.default_threshold).drifted)


def _ks(reference: pd.Series, current: pd.Series) -> float:
    return float(stats.ks_2samp(reference.dropna(), current.dropna(), method="asymp").pvalue)


if __name__ == "__main__":
    main()
