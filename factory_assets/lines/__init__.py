"""What a model line does: train, score, judge. Plain functions; no Dagster, so a replay can call them."""
