"""Every private name of Ray that we use, in one place.

Ray may rename them in any release, so pyproject.toml bounds Ray by the releases that the tests ran
with, and tests/cluster/test_ray_compat.py says which name is gone. To go to a newer Ray: raise the
bound, run that test, mend what it names.
"""

from ray._common.constants import HEAD_NODE_RESOURCE_NAME  # a resource that the head alone has
from ray.air.execution._internal.actor_manager import (
    RayActorManager,  # what Ray Tune starts its trials with
)
from ray.air.execution._internal.tracked_actor_task import TrackedActorTask
from ray.train._internal.base_worker_group import BaseWorkerGroup
from ray.train._internal.session import (
    get_session,  # of a trial: where its reports wait to be fetched
)
from ray.train.torch.config import _TorchBackend  # pyright: ignore[reportPrivateUsage]
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.exceptions import (
    WorkerHealthCheckFailedError,
    WorkerHealthCheckTimeoutError,
)
from ray.train.v2._internal.execution.controller import TrainController
from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy
from ray.train.v2._internal.execution.worker_group import Worker, WorkerGroup

TorchBackend = _TorchBackend

PRIVATE_MEMBERS = (
    "RayActorManager._actor_task_failed",
    "FixedScalingPolicy._maybe_send_resource_request",
    "TrainController._run_control_loop_iteration",
    "TrainController.worker_group_cls",
    "WorkerGroup._decorate_worker_log_file_paths",
    "WorkerGroup._init_train_context_on_workers",
)
"""Members of these classes that we call or replace."""

__all__ = [
    "HEAD_NODE_RESOURCE_NAME",
    "PRIVATE_MEMBERS",
    "BaseWorkerGroup",
    "DatasetsCallback",
    "FixedScalingPolicy",
    "PlacementGroupCleanerCallback",
    "RayActorManager",
    "TorchBackend",
    "TrackedActorTask",
    "TrainController",
    "Worker",
    "WorkerGroup",
    "WorkerHealthCheckFailedError",
    "WorkerHealthCheckTimeoutError",
    "get_session",
]
