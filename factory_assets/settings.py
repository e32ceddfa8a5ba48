"""Where the factory keeps its things. Every setting has a default for one machine; FACTORY_* variables override it."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from factory_assets.contracts.estimators import AllowedEstimator, allow_estimators, read_extra_estimators
from factory_assets.storage.delta.object_stores import parse_place

_MLFLOW_STORES = ("sqlite", "postgresql", "mysql", "mssql", "http", "https")


class FactorySettings(BaseSettings):
    """The settings of one installation."""

    model_config = SettingsConfigDict(env_prefix="FACTORY_", extra="ignore", hide_input_in_errors=True)

    # Of an installation without a repository the default is no project, and only some of its parts need one.
    project_dir: Path = Field(default=Path(__file__).resolve().parents[1], validate_default=False)
    data_dir: Path | None = None
    lake_uri: str | None = None
    mlflow_tracking_uri: str | None = None
    sensor_interval_seconds: int = Field(default=30, ge=1)
    # Not decoded as JSON: it has a short form of its own.
    extra_estimators: Annotated[dict[str, AllowedEstimator], NoDecode] = {}
    workers: int | None = None
    ray_address: str | None = None
    # Addresses with passwords and tokens in them: shown by nothing that prints the settings.
    alert_targets: SecretStr = SecretStr("")
    ui_url: str | None = None
    reports_url: str = "http://127.0.0.1:3001"
    price_per_cpu_hour: float = Field(default=0.05, ge=0)

    @field_validator("data_dir", "project_dir")
    @classmethod
    def _path_is_absolute(cls, value: Path | None) -> Path | None:
        """The factory, its workers and plain dbt start in different folders, and must mean the same place."""
        if value is not None and not value.is_absolute():
            raise ValueError(f"{str(value)!r} is not an absolute path of a local folder")
        return value

    @field_validator("project_dir")
    @classmethod
    def _project_is_there(cls, value: Path) -> Path:
        if not (value / "pyproject.toml").is_file():
            raise ValueError(
                f"{str(value)!r} has no pyproject.toml: give the folder in which dbt_project and workspace.yaml lie"
            )
        return value

    @field_validator("mlflow_tracking_uri")
    @classmethod
    def _store_is_known(cls, value: str | None) -> str | None:
        """The address may hold a password, so it is not told."""
        if not value:
            return value
        scheme, _, rest = value.partition("://")
        if not rest or scheme.partition("+")[0] not in _MLFLOW_STORES:
            listed = ", ".join(f"{name}://" for name in _MLFLOW_STORES)
            raise ValueError(f"is no address of an MLflow store: begin it with one of {listed}")
        if scheme == "sqlite" and not rest.startswith("//"):
            raise ValueError(
                "names a file of the folder that one stands in: give its absolute path, as sqlite:////data/mlflow.db"
            )
        return value

    @field_validator("extra_estimators", mode="before")
    @classmethod
    def _extra_estimators_are_listed(cls, value: Any) -> Any:
        return read_extra_estimators(value) if isinstance(value, str) else value

    @field_validator("ui_url", "reports_url")
    @classmethod
    def _link_can_be_followed(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError(f"{value!r} is no address that a link can lead to: start it with http:// or https://")
        return value

    @field_validator("workers")
    @classmethod
    def _there_is_a_worker(cls, value: int | None) -> int | None:
        if value is not None and value < 1:
            raise ValueError(f"{value} workers cannot work: give 1 or more, or leave it out for one a core")
        return value

    def model_post_init(self, context: Any) -> None:
        """An estimator that this installation allows may stand in its declarations, which are read after its settings."""
        allow_estimators(self.extra_estimators)

    @field_validator("lake_uri")
    @classmethod
    def _lake_is_somewhere(cls, value: str | None) -> str | None:
        """An address says where it is from everywhere; a path has to be absolute for that."""
        if value is None:
            return None
        place = parse_place(value)
        if place.is_local and not Path(place.path).is_absolute():
            raise ValueError(f"{value!r} is not an absolute path of a local folder, and no address of an object store")
        return place.path if place.is_local else value.rstrip("/")

    @property
    def alert_addresses(self) -> tuple[str, ...]:
        """The addresses of `alert_targets`, parted by blanks: an address may hold a comma."""
        return tuple(self.alert_targets.get_secret_value().split())

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
        """Root of the Delta tables: a local folder, or the address of one in an object store."""
        return self.lake_uri or str(self.data / "lake")

    @property
    def models(self) -> Path:
        """Where model artefacts lie, by content hash."""
        return self.data / "models"

    @property
    def reports(self) -> Path:
        """Where the drift reports lie, one page a line."""
        return self.data / "reports"

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


def name_wrong_settings(error: ValidationError) -> list[str]:
    """What is wrong in the environment, by the name of each variable; nothing when `error` is not about settings."""
    if error.title != FactorySettings.__name__:
        return []
    prefix = str(FactorySettings.model_config.get("env_prefix"))
    return [
        f"{prefix}{'_'.join(map(str, detail['loc'])).upper()}: {detail['msg'].removeprefix('Value error, ')}"
        + ("" if detail["type"] == "value_error" else f", and it is {detail['input']!r}")
        for detail in error.errors()
    ]
