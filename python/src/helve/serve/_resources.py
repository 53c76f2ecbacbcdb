"""Resources that a deployment asks for: ray_actor_options and placement_group_bundles, checked as Ray Serve checks them, and
in the form that the node takes.
"""

from __future__ import annotations

from typing import Any

from helve import _limits, _refused
from helve.serve import _environment

ACTOR_OPTIONS = (
    "num_cpus", "num_gpus", "memory", "object_store_memory", "resources", "accelerator_type", "runtime_env", "label_selector", "fallback_strategy",
)
STRATEGIES = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")
BUNDLE_NAMES = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory", "object_store_memory": "object_store_memory"}
_TYPES: dict = {
    "resources": dict, "runtime_env": dict, "label_selector": dict, "fallback_strategy": list, "accelerator_type": str,
}


def near(name: str, names: Any) -> str:
    """The end of a message about an unknown name: the name that was probably meant."""
    found = _refused.close_name(str(name), names)
    return f"; did you mean {found!r}" if found else ""


def actor_options(at: str, value: Any) -> dict:
    """ray_actor_options, as a copy in which num_cpus is set."""
    if value is None:
        return {"num_cpus": 1}
    if not isinstance(value, dict):
        raise TypeError(f'{at}ray_actor_options: Got invalid type "{type(value)}" for ray_actor_options. Expected a dictionary.')
    out: dict = {}
    for key, v in dict.items(value):
        if key not in ACTOR_OPTIONS:
            raise ValueError(
                f"{at}Specifying {key!r} in ray_actor_options is not allowed{near(key, ACTOR_OPTIONS)}. Allowed options: {', '.join(ACTOR_OPTIONS)}"
            )
        if v is None:
            continue
        kind = _TYPES.get(key)
        if not isinstance(v, kind or (int, float)) or isinstance(v, bool):
            want = kind.__name__ if kind else "number"
            raise TypeError(f"{at}The type of keyword {key!r} must be {want} or None in ray_actor_options, but received type {type(v)}")
        if kind is None:
            out[key] = quantity(f"{at}ray_actor_options: ", key, v)
        elif key == "resources":
            out[key] = _custom(f"{at}ray_actor_options: ", v)
        elif key == "runtime_env":
            out[key] = _environment.environment(f"{at}ray_actor_options.runtime_env", v)
        else:
            check = {"label_selector": _limits.selector, "fallback_strategy": _limits.alternatives}.get(key, _limits.as_json)
            out[key] = check(f"{at}ray_actor_options.{key}", v)
    out.setdefault("num_cpus", 1)
    return out


def quantity(at: str, name: str, value: Any) -> Any:
    if value < 0:
        raise ValueError(f"{at}The quantity of resource {name} cannot be negative, is {_limits.shown(value)}")
    if name in ("memory", "object_store_memory"):
        return _limits.integer(at + name, value if isinstance(value, int) else int(_limits.number(at + name, value, 0, 1 << 62)), 0, 1 << 62)
    return _limits.number(at + name, value, 0, 1 << 20)


def _custom(at: str, value: dict) -> dict:
    for name in ("CPU", "GPU", "memory", "object_store_memory"):
        if name in value:
            raise ValueError(
                f"{at}Use the 'num_cpus' and 'num_gpus' keyword instead of 'CPU' and 'GPU' in 'resources' keyword, and memory instead of 'memory': "
                f"resources has {name!r}"
            )
    out = {}
    for name, v in dict.items(value):
        if not isinstance(v, (int, float)) or isinstance(v, bool):
            raise TypeError(f"{at}resources: {name!r} must be a number, is {_limits.shown(v)}")
        out[_limits.text(at + "resources", name)] = quantity(at, name, v)
    return out


def bundles(at: str, value: Any) -> list:
    """placement_group_bundles, as a copy."""
    example = 'For example: `[{"CPU": 1.0}, {"GPU": 1.0}]`.'
    if not isinstance(value, list):
        raise ValueError(f"{at}placement_group_bundles: Placement group bundles must be a list, got {type(value)}.")
    if not value:
        raise ValueError(f"{at}placement_group_bundles: Bundles must be a non-empty list of resource dictionaries. {example} Got empty list instead.")
    for bundle in value:
        numbers = isinstance(bundle, dict) and all(
            isinstance(k, str) and isinstance(v, (int, float)) and not isinstance(v, bool) and v >= 0 for k, v in bundle.items()
        )
        if not numbers:
            raise ValueError(f"{at}placement_group_bundles: Bundles must be a non-empty list of resource dictionaries. {example} Got {_limits.shown(bundle)}.")
        if not any(bundle.values()):
            raise ValueError(f"{at}placement_group_bundles: Bundles cannot be an empty dictionary or resources with only 0 values. Bundles: {value}")
    return [dict(b) for b in value]


def check_groups(at: str, o: dict) -> None:
    """Checks the options of placement groups against each other. A replica asks for the sum of the bundles; there is one node, so that placement
    beyond it is refused.
    """
    have = o.get("placement_group_bundles")
    strategy, labels = o.get("placement_group_strategy"), o.get("placement_group_bundle_label_selector")
    if have is None:
        for name, v in (("placement_group_strategy", strategy), ("placement_group_bundle_label_selector", labels)):
            if v is not None:
                raise ValueError(f"{at}If `{name}` is provided, `placement_group_bundles` must also be provided.")
        return
    if o.get("max_replicas_per_node") is not None:
        raise ValueError(f"{at}Setting max_replicas_per_node is not allowed when placement_group_bundles is provided.")
    if strategy is not None and strategy not in STRATEGIES:
        raise ValueError(f"{at}Invalid placement group strategy {strategy}. Supported strategies are: {', '.join(STRATEGIES)}.")
    if labels is not None:
        if len(labels) not in (1, len(have)):
            raise ValueError(
                f"{at}Invalid bundle label selector {labels}. The length of `bundle_label_selector` should equal the length of `bundles`."
            )
        raise NotImplementedError(f"{at}placement_group_bundle_label_selector is not there: there is one node, which has no labels; leave it out")
    if strategy == "STRICT_SPREAD" and len(have) > 1:
        raise NotImplementedError(f"{at}placement_group_strategy STRICT_SPREAD needs a node per bundle, and there is one node; use PACK")
    first, asks = have[0], amounts(o.get("ray_actor_options") or {"num_cpus": 1})
    names = {theirs: ours for ours, theirs in BUNDLE_NAMES.items()}
    for name, wanted in asks.items():
        bundle_name = names.get(name, name)
        if wanted > first.get(bundle_name, 0):
            raise ValueError(
                f"{at}When using `placement_group_bundles`, the replica actor will be placed in the first bundle, so the resource requirements for the actor "
                f"must be a subset of the first bundle. `{name}` for the actor is {wanted}, but the bundle only has {first.get(bundle_name, 0)} "
                f"`{bundle_name}` specified."
            )


def amounts(options: dict) -> dict:
    """The resources of ray_actor_options in one dict."""
    named = {k: options[k] for k in BUNDLE_NAMES.values() if k in options}
    return {**named, **options.get("resources", {})}


def for_node(options: dict) -> dict:
    """ray_actor_options of the node: with bundles, their sum."""
    own = options.get("ray_actor_options") or {}
    have = options.get("placement_group_bundles")
    if not have:
        return {k: v for k, v in own.items() if k != "runtime_env"}
    out: dict = {"num_cpus": 0}
    for bundle in have:
        for name, v in bundle.items():
            if name in BUNDLE_NAMES:
                key = BUNDLE_NAMES[name]
                out[key] = out.get(key, 0) + v
            else:
                custom = out.setdefault("resources", {})
                custom[name] = custom.get(name, 0) + v
    for name in ("memory", "object_store_memory"):
        if name in out:
            out[name] = int(out[name])
    return {**out, **{k: own[k] for k in ("accelerator_type", "label_selector", "fallback_strategy") if k in own}}


__all__ = ["ACTOR_OPTIONS", "actor_options", "bundles", "check_groups", "for_node", "near"]
