"""The options of a deployment, each with the check of its value: a function of the option's name and the value.

Written from the table of options in internal/spec/options.go, by `go run ./internal/spec/gen`.
"""

from functools import partial

from helve import _limits

OPTIONS = {
    "num_replicas": partial(_limits.integer, least=1, most=100000),
    "max_ongoing_requests": partial(_limits.integer, least=1, most=1073741824),
    "max_queued_requests": partial(_limits.integer, least=1, most=9223372036854775807, beside=-1, meaning="no limit"),
    "user_config": _limits.as_json,
    "graceful_shutdown_timeout_s": _limits.seconds,
    "graceful_shutdown_wait_loop_s": _limits.seconds,
    "health_check_period_s": partial(_limits.seconds, positive=True),
    "health_check_timeout_s": partial(_limits.seconds, positive=True),
    "health_check_failure_threshold": partial(_limits.integer, least=1, most=1000),
    "readiness_check_period_s": partial(_limits.seconds, positive=True),
    "readiness_check_timeout_s": partial(_limits.seconds, positive=True),
    "readiness_failure_threshold": partial(_limits.integer, least=1, most=1000),
    "readiness_success_threshold": partial(_limits.integer, least=1, most=1000),
    "ejection_config": partial(_limits.group, of={
        "enabled": _limits.boolean,
        "consecutive_failures": partial(_limits.integer, least=1, most=10000),
        "eject_s": partial(_limits.seconds, positive=True),
        "max_percent": partial(_limits.integer, least=0, most=100),
    }),
    "construct_timeout_s": partial(_limits.seconds, positive=True),
    "max_constructor_retry_count": partial(_limits.integer, least=1, most=9223372036854775807),
    "warm_spare": _limits.boolean,
    "autoscaling_config": _limits.json_object,
    "max_replicas_per_node": partial(_limits.integer, least=1, most=100, beside=0, meaning="no limit"),
    "rolling_update_percentage": partial(_limits.number, least=1e-09, most=1),
    "max_surge_percent": partial(_limits.integer, least=0, most=100),
    "rollout_config": partial(_limits.group, of={
        "max_surge": _limits.share,
        "max_unavailable": _limits.share,
        "steps": _limits.shares,
        "step_pause_s": partial(_limits.seconds, beside=-1, meaning="until resume"),
        "min_ready_s": _limits.seconds,
        "progress_deadline_s": partial(_limits.seconds, positive=True),
        "automatic_rollback": _limits.boolean,
        "error_rate": partial(_limits.group, of={
            "enabled": _limits.boolean,
            "min_calls": partial(_limits.integer, least=1, most=1073741824),
            "window_s": partial(_limits.seconds, positive=True),
            "factor": partial(_limits.number, least=1, most=1000),
            "points": partial(_limits.number, least=0, most=100),
        }),
    }),
    "backpressure_config": partial(_limits.group, of={
        "status_code": partial(_limits.one_of, of=[503, 429]),
        "retry_after_s": _limits.seconds,
    }),
    "logging_config": _limits.json_object,
    "ray_actor_options": partial(_limits.group, of={
        "num_cpus": partial(_limits.number, least=0, most=1048576),
        "num_gpus": partial(_limits.number, least=0, most=1048576),
        "memory": partial(_limits.integer, least=0, most=9223372036854775807, unit=" bytes"),
        "object_store_memory": partial(_limits.integer, least=0, most=9223372036854775807, unit=" bytes"),
        "accelerator_type": _limits.text,
        "resources": _limits.quantities,
        "label_selector": _limits.selector,
        "fallback_strategy": _limits.alternatives,
    }),
    "request_router": partial(_limits.group, of={
        "policy": partial(_limits.choice, of=["power_of_two_choices", "round_robin", "consistent_hash"]),
        "virtual_nodes": partial(_limits.integer, least=1, most=100000),
        "fallback_replicas": partial(_limits.integer, least=0, most=100000),
    }),
    "request_routing_stats_period_s": partial(_limits.seconds, positive=True),
    "request_routing_stats_timeout_s": partial(_limits.seconds, positive=True),
    "runtime_env": partial(_limits.group, of={
        "env_vars": _limits.variables,
        "working_dir": _limits.text,
        "py_modules": _limits.texts,
        "excludes": _limits.texts,
        "pip": partial(_limits.group, of={
            "packages": _limits.texts,
            "pip_install_options": _limits.texts,
            "pip_version": _limits.text,
            "pip_check": _limits.boolean,
        }),
    }),
    "limits": partial(_limits.group, of={
        "memory": partial(_limits.integer, least=16777216, most=9223372036854775807, beside=0, meaning="no limit", unit=" bytes"),
        "num_cpus": partial(_limits.number, least=0.01, most=1048576, beside=0, meaning="no limit"),
        "open_files": partial(_limits.integer, least=16, most=2147483647, beside=0, meaning="no limit"),
        "from_resources": _limits.boolean,
    }),
    "unresponsive_after_s": partial(_limits.seconds, positive=True),
    "max_unresponsive_s": _limits.seconds,
    "version": _limits.text,
}

__all__ = ["OPTIONS"]
