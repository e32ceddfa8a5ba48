"""Where the factory keeps its things. Every setting has a default for one machine; FACTORY_* variables override it."""

from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict


class FactorySettings(BaseSettings):
    """The settings of one installation. Credentials of object stores stay in the variables their own clients read."""

    model_config = SettingsConfigDict(env_prefix="FACTORY_", extra="ignore")

    project_dir: Path = Path(__file__).resolve().parents[1]
    data_dir: Path | None = None
    lake_uri: str | None = None
    mlflow_tracking_uri: str | None = None
    sensor_interval_seconds: int = 30

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
        """Root of the Delta tables: a local folder, or an object-store URL."""
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
