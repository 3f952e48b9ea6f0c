"""Ray Tune 2.60 ends the whole search when Ray kills one trial for memory; here only that one.

Its actor manager knows two kinds of failure, an actor that died and a task that raised, and raises
RuntimeError on any other (ray/air/execution/_internal/actor_manager.py, _actor_task_failed).
OutOfMemoryError is neither, though the actor is dead.
"""

from ray.exceptions import OutOfMemoryError, RayActorError

from cluster.ray_compat import RayActorManager, TrackedActorTask

_task_failed = RayActorManager._actor_task_failed  # pyright: ignore[reportPrivateUsage]


def _task_failed_or_killed(
    self: RayActorManager, tracked_actor_task: TrackedActorTask, exception: Exception
) -> None:
    if isinstance(exception, OutOfMemoryError):
        exception = RayActorError(error_msg=str(exception))
    _task_failed(self, tracked_actor_task, exception)


def survive_memory_kills() -> None:
    """Make a trial that Ray kills for memory fail like one whose process died."""
    RayActorManager._actor_task_failed = (  # pyright: ignore[reportPrivateUsage]
        _task_failed_or_killed
    )
