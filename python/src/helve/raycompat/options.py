"""The options of tasks and actors: which there are, which have an effect, and which are refused."""

from __future__ import annotations

# Options of both.
_BOTH = frozenset((
    "accelerator_type", "fallback_strategy", "label_selector", "memory", "num_cpus", "num_gpus", "object_store_memory", "resources", "runtime_env",
    "scheduling_strategy", "enable_task_events", "name", "placement_group", "placement_group_bundle_index", "placement_group_capture_child_tasks",
    "_metadata", "_labels",
))
TASK = _BOTH | {"max_calls", "max_retries", "num_returns", "retry_exceptions", "_generator_backpressure_num_objects"}
ACTOR = _BOTH | {
    "concurrency_groups", "enable_tensor_transport", "get_if_exists", "lifetime", "max_concurrency", "max_pending_calls", "max_restarts",
    "max_task_retries", "namespace", "allow_out_of_order_execution",
}


def checked(options: dict, actor: bool) -> dict:
    """The options, checked."""
    known, kind = (ACTOR, "actors") if actor else (TASK, "tasks")
    for name, value in options.items():
        if name not in known:
            raise ValueError(f"Invalid option keyword {name} for {kind}. Valid ones are {sorted(n for n in known if not n.startswith('_'))}.")
        if name in ("num_cpus", "num_gpus", "memory") and value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0):
            raise ValueError(f"The value of '{name}' must be a number of at least 0, is {value!r}.")
    if options.get("placement_group") not in (None, "default"):
        raise ValueError("placement_group is not in Helve: one node runs all actors; leave the option out")
    if options.get("concurrency_groups"):
        raise ValueError("concurrency_groups is not in Helve: max_concurrency limits the calls of an actor")
    if actor:
        _check_actor(options)
    elif not (options.get("num_returns") in (None, "dynamic", "streaming") or isinstance(options["num_returns"], int) and options["num_returns"] >= 0):
        raise ValueError(f"num_returns must be at least 0, 'dynamic' or 'streaming', is {options['num_returns']!r}")
    return options


def _check_actor(options: dict) -> None:
    name, most = options.get("name"), options.get("max_concurrency")
    if name is not None and not isinstance(name, str):
        raise TypeError(f"name must be None or a string, got: '{type(name)}'.")
    if name == "":
        raise ValueError("Actor name cannot be an empty string.")
    if options.get("lifetime") not in (None, "detached", "non_detached"):
        raise ValueError("actor `lifetime` argument must be one of 'detached', 'non_detached' and None")
    if options.get("get_if_exists") and not name:
        raise ValueError("The actor name must be specified to use `get_if_exists`.")
    if most is not None and (not isinstance(most, int) or most < 1):
        raise ValueError(f"max_concurrency must be an integer of at least 1, is {most!r}")


def of_deployment(options: dict) -> dict:
    """The options of the hidden deployment of a task or actor."""
    from helve.serve import _environment

    made: dict = {
        "num_replicas": 1, "max_ongoing_requests": 1 << 20, "graceful_shutdown_timeout_s": 0.0, "max_constructor_retry_count": 1, "max_unresponsive_s": 0,
    }
    if options.get("runtime_env"):
        made["runtime_env"] = _environment.environment("runtime_env", options["runtime_env"])
    # As in Ray: an actor that does not ask for CPUs holds none while it runs. For example, a program with ray.init(num_cpus=2) has a hundred such actors.
    made["ray_actor_options"] = {"num_cpus": options.get("num_cpus") or 0, **{k: options[k] for k in ("num_gpus", "resources") if options.get(k)}}
    return made


__all__ = ["checked", "of_deployment"]
