"""Drift values by Evidently's own tests, in an environment of its own (`make evidently`): a JSON list from stdin to stdout.

Each request has `test` (psi, jensenshannon, wasserstein, ks, chisquare), `kind` (num or cat), `reference` and `current`; its
answer is Evidently's score.
"""

import json
import sys

import pandas as pd
from evidently.legacy.calculations.stattests import get_stattest

answers = []
for request in json.load(sys.stdin):
    sides = [pd.Series(request[side]) for side in ("reference", "current")]
    test = get_stattest(*sides, request["kind"], request["test"])
    answers.append(float(test(*sides, request["kind"], 0.1).drift_score))
json.dump(answers, sys.stdout)
