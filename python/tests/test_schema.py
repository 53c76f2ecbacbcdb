"""Schemas of configurations and details: their checks and errors. The fields and defaults are in test_config.py."""

import pytest
from pydantic import ValidationError

from helve import serve
from helve.serve import schema
from helve.serve.config import AutoscalingPolicy
from helve.serve.deployment import deployment_to_schema, schema_to_deployment
from helve.serve.schema import ApplicationDetails, DeploymentSchema, RayActorOptionsSchema, ServeApplicationSchema, ServeDeploySchema, ServeInstanceDetails

APP = {"import_path": "m:a"}


@pytest.mark.parametrize("fields, text", [
    ({"import_path": "m"}, 'Got invalid import path "m"'), ({"import_path": "m:a:b"}, "An import path may have at most one colon"),
    ({"import_path": ":a"}, "An import path may not start or end with a colon"), ({"import_path": "a:"}, "may not start or end with a colon"),
    ({"import_path": "a."}, "may not start or end with a dot"), ({"import_path": None}, "import_path"),
    ({"runtime_env": {"working_dir": "/x"}}, "support only remote URIs in working_dir and py_modules"), ({"runtime_env": None}, "runtime_env"),
    ({"runtime_env": {"py_modules": ["/x"]}}, "Expected URI but received path /x"), ({"runtime_env": {"py_modules": "/x"}}, "py_modules must be a list"),
    ({"deployments": [{}]}, "deployments.0.name"), ({"logging_config": {"log_level": "x"}}, "log_level must be one of"),
    ({"external_scaler_enabled": True, "deployments": [{"name": "a", "num_replicas": "auto"}]}, 'have autoscaling configured: "a"'),
    ({"external_scaler_enabled": True, "deployments": [{"name": "a", "autoscaling_config": {}}]}, "external_scaler_enabled is set to True"),
])
def test_a_wrong_application(fields, text):
    with pytest.raises(ValidationError, match=text):
        ServeApplicationSchema(**{**APP, **fields})


@pytest.mark.parametrize("fields", [
    {}, {"import_path": "m.a"}, {"import_path": "m.b:a.c"}, {"route_prefix": None}, {"name": ""}, {"runtime_env": {"working_dir": "s3://x/y.zip"}},
    {"runtime_env": {"working_dir": "local:///x", "py_modules": ["https://x/y.zip"]}}, {"deployments": [{"name": "a", "unknown": 1}]}, {"unknown": 1},
    {"args": {"a": 1}}, {"autoscaling_policy": {"policy_function": "a:b"}},
])
def test_an_application(fields):
    app = ServeApplicationSchema(**{**APP, **fields})
    assert ServeApplicationSchema(**app.model_dump(exclude_unset=True)) == app
    assert app.deployment_names == [d["name"] for d in fields.get("deployments", [])]


def test_the_policy_of_an_application_is_a_dict():
    assert ServeApplicationSchema(**APP, autoscaling_policy=AutoscalingPolicy()).autoscaling_policy["policy_kwargs"] == {}


@pytest.mark.parametrize("fields, text", [
    ({"num_replicas": 0}, "greater than 0"), ({"num_replicas": "x"}, '`num_replicas` must be an int or "auto", but got: x'),
    ({"num_replicas": 2, "autoscaling_config": {}}, "Manually setting num_replicas is not allowed when autoscaling_config is provided"),
    ({"max_ongoing_requests": 0}, "greater than 0"), ({"max_queued_requests": 0}, "max_queued_requests must be -1"),
    ({"max_queued_requests": "1"}, "max_queued_requests"), ({"health_check_period_s": 0}, "greater than 0"), ({"user_config": 5}, "valid dictionary"),
    ({"max_replicas_per_node": 1, "placement_group_bundles": [{"CPU": 1}]}, "Setting max_replicas_per_node is not allowed when placement_group_bundles"),
    ({"placement_group_bundle_label_selector": [{}]}, "Setting bundle_label_selector is not allowed when placement_group_bundles is not provided"),
    ({"ray_actor_options": {"num_cpus": -1}}, "num_cpus"), ({"ray_actor_options": {"runtime_env": {"working_dir": "."}}}, "received path ."),
    ({"gang_scheduling_config": {"gang_size": 2}, "num_replicas": 3}, "must be a multiple of gang_size"), ({"rolling_update_percentage": 0}, "greater than 0"),
    ({"rolling_update_percentage": 1.1}, "less than or equal to 1"), ({"max_surge_percent": 101}, "less than or equal to 100"), ({"logging_config": None}, "logging_config"),
])
def test_a_wrong_deployment(fields, text):
    with pytest.raises(ValidationError, match=text):
        DeploymentSchema(name="d", **fields)


@pytest.mark.parametrize("fields, scaled", [
    ({}, False), ({"num_replicas": "auto"}, True), ({"autoscaling_config": {}}, True), ({"autoscaling_config": None}, False), ({"num_replicas": 1}, False),
    ({"num_replicas": "auto", "autoscaling_config": {"max_replicas": 2}}, True), ({"num_replicas": None}, False), ({"max_replicas_per_node": 101}, False),
])
def test_a_deployment(fields, scaled):
    d = DeploymentSchema(name="d", **fields)
    assert d.model_dump(exclude_unset=True) == {"name": "d", **fields} and d.is_autoscaling_configured() is scaled


@pytest.mark.parametrize("fields, text", [
    ({"applications": [APP, APP]}, 'Found multiple configs for application "default"'), ({}, "applications\n  Field required"),
    ({"applications": [APP, {**APP, "name": "b"}]}, 'Found duplicate applications for route prefix "/"'),
    ({"applications": [{**APP, "name": ""}]}, "Application names must be nonempty"), ({"applications": [{**APP, "host": "h"}]}, 'Host "h" is set in the config'),
    ({"applications": [{**APP, "port": 1}]}, 'Port "1" is set in the config for application `default`'), ({"applications": [], "proxy_location": "x"}, "proxy_location"),
    ({"applications": [], "target_capacity": 101}, "target_capacity"), ({"applications": [], "http_options": {"ssl_keyfile": "k"}}, "must be provided together"),
    ({"applications": [], "controller_options": {"x": 1}}, "Extra inputs"), ({"applications": [], "tracing_config": {"sampling_ratio": -1}}, "sampling_ratio"),
])
def test_a_wrong_configuration(fields, text):
    with pytest.raises(ValidationError, match=text):
        ServeDeploySchema(**fields)


def test_a_configuration():
    two = ServeDeploySchema(applications=[APP, {**APP, "name": "b", "route_prefix": None}], proxy_location="Disabled", http_options={"port": 1, "unknown": 2})
    assert two.http_options.port == 1 and two.proxy_location.value == "Disabled" and ServeDeploySchema(**two.model_dump(exclude_unset=True)) == two
    assert ServeDeploySchema(**ServeDeploySchema.get_empty_schema_dict()).applications == []
    assert ServeApplicationSchema.get_empty_schema_dict()["deployments"] == []


def test_labels():
    assert RayActorOptionsSchema(label_selector={"ray.io/zone": "a", "x": "y"}).label_selector["x"] == "y"
    with pytest.raises(ValidationError, match="Invalid label key name `a!`"):
        RayActorOptionsSchema(label_selector={"a!": "b"})


def test_details():
    details = {
        "name": "a", "route_prefix": "/x", "docs_path": None, "status": "RUNNING", "message": "", "last_deployed_time_s": 1, "source": "imperative",
        "deployments": {"D": {
            "name": "D", "status": "HEALTHY", "status_trigger": "UNSPECIFIED", "message": "", "deployment_config": {"name": "D"}, "target_num_replicas": 1,
            "required_resources": {"CPU": 1}, "replicas": [{"replica_id": "D#1", "state": "RUNNING", "start_time_s": 2, "pid": 7}],
        }}, "external_scaler_enabled": False,
    }
    app = ApplicationDetails(**details)
    assert app.status is schema.ApplicationStatus.RUNNING and app.deployments["D"].replicas[0].state is schema.ReplicaState.RUNNING
    for wrong, text in (({"route_prefix": "x"}, 'must start with "/"'), ({"route_prefix": "/x/"}, 'must not end with "/"'), ({"unknown": 1}, "Extra inputs"),
                        ({"route_prefix": "/{x}"}, "braces"), ({"status": "GOOD"}, "status")):
        with pytest.raises(ValidationError, match=text):
            ApplicationDetails(**{**details, **wrong})
    with pytest.raises(ValidationError, match="frozen"):
        app.name = "b"
    all_of_it = ServeInstanceDetails(proxies={"n": {"status": "HEALTHY"}}, applications={"a": app}, target_groups=[
        {"targets": [{"ip": "1.2.3.4", "port": 1, "instance_id": "", "name": "p"}], "route_prefix": "/", "protocol": "HTTP"}])
    assert ServeInstanceDetails.model_validate_json(all_of_it.model_dump_json(exclude_unset=True)) == all_of_it
    assert ServeInstanceDetails(**ServeInstanceDetails.get_empty_schema_dict()).applications == {}


def test_numbers_of_times():
    assert schema.DurationStats.from_values([]) == schema.DurationStats()
    stats = schema.DurationStats.from_values([1, 2, 3])
    assert (stats.mean, stats.min, stats.max) == (2, 1, 3) and abs(stats.std - 0.816496580927726) < 1e-12


def test_a_task_consumer_is_refused():
    with pytest.raises(NotImplementedError, match="queue"):
        schema.TaskProcessorAdapter()


@pytest.mark.parametrize("options", [
    {"num_replicas": 2, "user_config": {"a": 1}}, {"autoscaling_config": {"max_replicas": 4}}, {"num_replicas": "auto"}, {"ray_actor_options": {"num_gpus": 0.5}},
    {"placement_group_bundles": [{"CPU": 1}], "placement_group_strategy": "PACK"}, {"max_replicas_per_node": 3, "max_ongoing_requests": 7}, {},
    {"logging_config": {"log_level": "DEBUG"}, "backpressure_config": {"status_code": 429}, "health_check_period_s": 3, "max_queued_requests": 5},
    {"request_router_config": {"request_routing_stats_period_s": 1}, "rolling_update_percentage": 0.5, "max_surge_percent": 10},
])
def test_a_deployment_as_a_schema_and_back(options):
    d = serve.deployment(name="D", **options)(lambda: 1)
    made = deployment_to_schema(d)
    again = schema_to_deployment(made)
    assert (again.name, again._options, again._given) == ("D", d._options, d._given)
    assert deployment_to_schema(again) == made
