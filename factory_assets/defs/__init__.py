"""Instances: what this factory makes. YAML only."""
