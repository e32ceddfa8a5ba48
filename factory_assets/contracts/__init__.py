"""Specs a user writes and frozen reports the factory produces. No Dagster, MLflow, Delta, clock, environment."""
