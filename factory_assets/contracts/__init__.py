"""Specs a user writes and frozen reports the factory produces. Pure data: no Dagster, MLflow, Delta, clock or environment."""
