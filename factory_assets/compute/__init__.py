"""Where work on many segments runs: here, on worker processes, or on a Ray cluster. Knows no Dagster and no MLflow."""
