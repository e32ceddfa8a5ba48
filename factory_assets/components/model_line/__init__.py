"""The ModelLine component: one declaration becomes assets, checks, a retrain job and its sensor."""

from factory_assets.components.model_line.component import ModelLine

__all__ = ["ModelLine"]
