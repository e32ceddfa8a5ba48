"""Drift: what is kept of the training rows, how far the newest rows are from it, and whether noise explains that."""

from factory_assets.core.drift.references import build_reference, build_score_profile, numeric_references

__all__ = ["build_reference", "build_score_profile", "numeric_references"]
