"""Retrain policies tried on the past, at the speed of the machine: production's decisions and training, in memory.

Nothing is written: no table, no model file, no MLflow run. The tables are read once, at the versions that belong together.
"""
