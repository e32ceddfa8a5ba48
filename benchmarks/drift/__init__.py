"""Drift checks against the tools that people use today, and against the promise that they make."""
