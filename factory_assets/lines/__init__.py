"""What a model line does: train, score, judge. Plain functions over storage and core; no Dagster, so a replay can call them."""
