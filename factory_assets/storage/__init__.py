"""Adapters to Delta, MLflow and dbt: one owner for each table or registry."""
