"""The Dagster components that a user names in YAML."""

from factory_assets.components.alerts import Alerts
from factory_assets.components.budget import RetrainBudget
from factory_assets.components.calendar import Calendar
from factory_assets.components.dbt_project import DbtProject
from factory_assets.components.delta_source import DeltaSource
from factory_assets.components.maintenance import Maintenance
from factory_assets.components.model_line import ModelLine

__all__ = ["Alerts", "Calendar", "DbtProject", "DeltaSource", "Maintenance", "ModelLine", "RetrainBudget"]
