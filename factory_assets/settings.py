"""Where the factory keeps its things. Every setting has a default for one machine; FACTORY_* variables override it."""

from pathlib import Path

from pydantic import field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class FactorySettings(BaseSettings):
    """The settings of one installation."""

    model_config = SettingsConfigDict(env_prefix="FACTORY_", extra="ignore")

    project_dir: Path = Path(__file__).resolve().parents[1]
    data_dir: Path | None = None
    lake_uri: str | None = None
    mlflow_tracking_uri: str | None = None
    sensor_interval_seconds: int = 30

    @field_validator("data_dir", "lake_uri")
    @classmethod
    def _paths_are_absolute(cls, value: Path | str | None) -> Path | str | None:
        """The factory, its workers and plain dbt start in different folders, and must mean the same place."""
        if value is not None and not Path(value).is_absolute():
            raise ValueError(f"{str(value)!r} is not an absolute path of a local folder")
        return value

    @property
    def data(self) -> Path:
        """The folder below which everything embedded lies."""
        return (self.data_dir or self.project_dir / "data").resolve()

    @property
    def landing(self) -> Path:
        """Where raw files arrive."""
        return self.data / "landing"

    @property
    def lake(self) -> str:
        """Root of the Delta tables, a local folder."""
        return self.lake_uri or str(self.data / "lake")

    @property
    def models(self) -> Path:
        """Where model artefacts lie, by content hash."""
        return self.data / "models"

    @property
    def clock(self) -> Path:
        """The file that holds the instant a replay has reached; absent in the present."""
        return self.data / "clock.json"

    @property
    def mlflow_uri(self) -> str:
        """MLflow's tracking and registry store."""
        return self.mlflow_tracking_uri or f"sqlite:///{self.data / 'mlflow' / 'mlflow.db'}"

    @property
    def mlflow_artifacts(self) -> str:
        """Where MLflow keeps files."""
        return str(self.data / "mlflow" / "artifacts")

    @property
    def dagster_home(self) -> Path:
        """Dagster's own record of runs and checks."""
        return self.data / "dagster"

    @property
    def dbt_project(self) -> Path:
        """The analysts' project."""
        return self.project_dir / "dbt_project"
