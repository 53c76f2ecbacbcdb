"""Programs as users of Ray Serve write them, by `helve run --ray-compat`: what held some of them up."""

import pytest
from programs import helve, output, program

WAITING = """
    import ray
    from ray import serve
    from ray._common.test_utils import SignalActor, wait_for_condition

    @serve.deployment
    class Other:
        def __call__(self):
            return "other"

    @serve.deployment
    class Waits:
        def __init__(self, other):
            self.other = other

        def __call__(self, request=None):
            return self.other.remote().result()

        def wait(self, signal):
            ray.get(signal.wait.remote())

        def items(self):
            yield self.other.remote().result()

    handle = serve.run(Waits.bind(Other.bind()), route_prefix=None)
"""


@pytest.fixture
def run(tmp_path):
    """Runs a program, and returns the outcome of its process."""

    def run(text, env=None, options=("--port", "0")):
        return helve("run", "--ray-compat", *options, program(tmp_path, "script.py", text), cwd=tmp_path, env=env)

    return run


def test_plain_methods_wait_for_responses(run):
    assert output(run(WAITING + """
    print(handle.remote().result(), list(handle.options(stream=True).items.remote()))
    """)) == "other ['other']\n"


def test_plain_methods_wait_beside_each_other(run):
    assert output(run(WAITING + """
    signal = SignalActor.remote()
    waiting = [handle.wait.remote(signal) for _ in range(3)]
    wait_for_condition(lambda: ray.get(signal.cur_num_waiters.remote()) == 3, timeout=60)
    print(handle.remote().result())
    ray.get(signal.send.remote())
    print([w.result() for w in waiting])
    """)) == "other\n[None, None, None]\n"


def test_plain_methods_run_on_the_loop_where_the_environment_says_so(run):
    done = run(WAITING + """
    print(handle.remote().result())
    """, env={"RAY_SERVE_RUN_SYNC_IN_THREADPOOL": "0"})
    assert done.returncode == 1 and "Sync methods should not be called from within an `asyncio` event loop" in done.stderr


def test_tasks_and_actors_are_no_applications_in_messages(run):
    assert output(run("""
    import ray
    from ray import serve

    @serve.deployment
    class Only:
        pass

    @ray.remote
    def task():
        return 1

    assert ray.get(task.remote()) == 1
    serve.run(Only.bind(), name="only", route_prefix=None)
    for find in (lambda: serve.get_app_handle("x"), lambda: serve.get_deployment_handle("X", "y")):
        try:
            find()
        except Exception as e:
            print(e.args[0])
    """)) == """\
Application 'x' does not exist. The node runs only.
Deployment(name='X', app='y') does not exist. The node runs only.
"""


@pytest.mark.parametrize("env, gpus", [
    ({"HELVE_GPUS": "4"}, "4.0"), ({"HELVE_GPUS": "4", "CUDA_VISIBLE_DEVICES": "1,3"}, "2.0"), ({"HELVE_GPUS": "0"}, "None"),
])
def test_resources_have_the_gpus_of_the_node(run, env, gpus):
    done = run("""
    import ray

    ray.init()
    print(ray.cluster_resources().get("GPU"))
    """, env=env)
    assert output(done) == f"{gpus}\n"


def test_resources_of_init_come_first(run):
    assert output(run("""
    import ray

    ray.init(num_gpus=1)
    print(ray.cluster_resources()["GPU"])
    """, env={"HELVE_GPUS": "4"})) == "1.0\n"


def test_the_url_of_all_addresses_can_be_opened(run):
    done = run("""
    import urllib.request
    from ray import serve

    serve.start(http_options={"host": "0.0.0.0", "port": 0})

    @serve.deployment
    def here(request):
        return "here"

    serve.run(here.bind())
    """, options=())
    assert output(done) == "" and "is ready at http://127.0.0.1:" in done.stderr


def test_names_of_the_module_api(run):
    assert output(run("""
    from ray import serve
    from ray.serve.api import Application, Deployment, deployment, get_multiplexed_model_id, get_replica_context, ingress, multiplexed

    assert deployment is serve.deployment and ingress is serve.ingress and multiplexed is serve.multiplexed
    assert Application is serve.Application and Deployment is serve.Deployment
    assert get_replica_context is serve.get_replica_context and get_multiplexed_model_id is serve.get_multiplexed_model_id
    print("there")
    """)) == "there\n"


def test_a_replica_that_exits_in_a_method_has_died(run):
    assert output(run("""
    import os
    import sys
    import ray
    from ray import serve

    @serve.deployment
    class Exits:
        def exit(self):
            sys.exit(3)

        async def end(self):
            os._exit(3)

        def pid(self):
            return os.getpid()

    handle = serve.run(Exits.bind(), route_prefix=None)
    for end in (handle.exit, handle.end):
        before = handle.pid.remote().result()
        try:
            end.remote().result()
        except ray.exceptions.ActorDiedError as e:
            print("died", isinstance(e, serve.exceptions.RayServeException), handle.pid.remote().result() != before)
    """)) == "died True True\n" * 2
