"""The choice of where a fan-out runs."""

import os
from typing import Literal

from factory_assets.compute.fan_out import FanOut
from factory_assets.compute.processes import ProcessFanOut
from factory_assets.compute.ray_cluster import RayAddressError, RayFanOut
from factory_assets.compute.serial import SerialFanOut

Executor = Literal["serial", "processes", "ray"]


def open_fan_out(executor: Executor, workers: int | None = None, ray_address: str | None = None) -> FanOut:
    """The backend that `executor` names.

    Args:
        executor: where the work shall run.
        workers: worker processes; absent: one a core that this process may use. A Ray cluster knows its own number.
        ray_address: of the running cluster, as `ray.init` takes it.

    Raises:
        RayAddressError: naming the setting, when Ray is chosen and no address is given.
    """
    if executor == "ray":
        if not ray_address:
            raise RayAddressError(
                "`executor: ray` needs the address of a running cluster: start one (`ray start --head`) and set"
                " FACTORY_RAY_ADDRESS, or choose `executor: processes`"
            )
        return RayFanOut(ray_address)
    if executor == "processes":
        return ProcessFanOut(workers or available_cores())
    return SerialFanOut()


def available_cores() -> int:
    """Cores that this process may use, which in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
