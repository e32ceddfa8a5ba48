"""Opens the stores of a line from Dagster's resources."""

from factory_assets.contracts.model_line import ModelLineSpec
from factory_assets.lines.stores import LineStores
from factory_assets.resources import LakeResource, MlflowResource
from factory_assets.settings import FactorySettings


def open_stores(spec: ModelLineSpec, lake: LakeResource, mlflow: MlflowResource) -> LineStores:
    """The storage objects of one line; nothing connects yet."""
    settings = FactorySettings()
    return LineStores(
        spec, lake.open(), lake.artefacts(), mlflow.open(), workers=settings.workers, ray_address=settings.ray_address
    )
