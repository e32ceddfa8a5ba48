"""A code location of one fleet, for the webserver's questions about its segments."""

from datetime import date

import dagster as dg

from factory_assets.components.model_line.training import build_segments_asset, build_training_set_asset
from factory_assets.contracts.calendar import CalendarSpec
from factory_assets.resources import build_resources
from factory_assets.settings import FactorySettings
from tests.lines.fleet_fixture import fleet_spec


@dg.definitions
def defs() -> dg.Definitions:
    spec = fleet_spec()
    assets = [build_training_set_asset(spec), build_segments_asset(spec, CalendarSpec(start=date(2015, 1, 1)))]
    return dg.Definitions(assets=assets, resources=build_resources(FactorySettings()))
