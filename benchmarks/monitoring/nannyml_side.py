"""Runs in an environment of its own: NannyML's estimate of a classifier's quality, window by window. Prints JSON.

python nannyml_side.py SCORES.parquet, with `champion`, `part` (-1: its holdout; else a window), `score`, `label`.
"""

import json
import sys
import warnings

import nannyml
import pandas as pd


def main() -> None:
    """The estimated area under the curve of each champion's windows."""
    warnings.simplefilter("ignore")
    rows = pd.read_parquet(sys.argv[1])
    rows["said"] = (rows["score"] >= 0.5).astype(int)
    rows["label"] = rows["label"].astype(int)
    found: dict[str, dict[str, float]] = {}
    for champion, own in rows.groupby("champion"):
        holdout = own[own["part"] < 0]
        estimator = nannyml.CBPE(
            metrics=["roc_auc"],
            y_pred_proba="score",
            y_pred="said",
            y_true="label",
            problem_type="classification_binary",
            chunk_number=4,
        ).fit(holdout.reset_index(drop=True))
        found[str(champion)] = {}
        for part, window in own[own["part"] >= 0].groupby("part"):
            estimator.chunker = nannyml.chunk.CountBasedChunker(1)
            result = estimator.estimate(window.reset_index(drop=True)).filter(period="analysis").to_df()
            found[str(champion)][str(part)] = float(result[("roc_auc", "value")].mean())
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
