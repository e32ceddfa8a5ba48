"""Retraining: exactly once under crashes, bounded by budget, quick to decide."""
