"""GPUs of replicas: HELVE_GPUS states how many the node of a program has."""

import os
import subprocess
import sys
import textwrap


def run(tmp_path, text, gpus, **env):
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent("""
        import json, os, re, signal, subprocess, sys, time
        from helve import serve
        from helve.serve.api import _run
        serve.start(http_options={"port": None})

        class Model:
            def __init__(self, ok=True):
                assert ok, "the constructor fails"
            def __call__(self, what="CUDA_VISIBLE_DEVICES"):
                return os.environ.get(what)
            def die(self):
                os.kill(os.getpid(), signal.SIGKILL)
            def pid(self):
                return os.getpid()

        def serve_details(name):
            helve = os.path.join(os.path.dirname(sys.executable), "helve")
            out = subprocess.run([helve, "status", "-o", "json"], capture_output=True, text=True, check=True).stdout
            return json.loads(out)["applications"][name]["deployments"][name]

        def start(name, gpus, *args, **options):
            options.setdefault("ray_actor_options", {} if gpus is None else {"num_gpus": gpus})
            d = serve.deployment(Model).options(name=name, max_constructor_retry_count=1, **options)
            return serve.run(d.bind(*args), name=name, route_prefix=None)

        def visible(*args, **options):
            return start(*args, **options).remote().result()

        def waits(name, gpus):
            d = serve.deployment(Model).options(name=name, ray_actor_options=gpus if isinstance(gpus, dict) else {"num_gpus": gpus})
            _run(d.bind(), name=name, route_prefix=None, _blocking=False)
            while not (message := serve.status().applications[name].deployments[name].message):
                time.sleep(0.05)
            serve.delete(name)
            return re.sub("#[0-9a-z]{3}", "#ID", message)

        def failure(name, *args, **options):
            try:
                return visible(name, *args, **options)
            except Exception as e:
                return str(e).strip().splitlines()[-1].removeprefix(f"Deploying application {name} failed: ")
        """) + textwrap.dedent(text))
    env = {**{k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}, **env}
    if gpus is not None:
        env["HELVE_GPUS"] = str(gpus)
    done = subprocess.run([sys.executable, str(program)], cwd=tmp_path, capture_output=True, text=True, timeout=120, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), done.stderr


def test_whole_and_parts(tmp_path):
    """Parts share a device, whole devices are a replica's own, and a replica without GPUs sees none. A replica waits where none is free; the
    devices of applications that are deleted, of failed starts and of killed processes come back."""
    lines, _ = run(tmp_path, """
        print(visible("half", 0.5), visible("other", 0.5), visible("whole", 1), repr(visible("none", None)), repr(visible("zero", 0)))
        print(waits("more", 1))
        print(failure("most", 3))
        print(failure("many", 1, num_replicas=3))
        print([r["gpus"] for r in serve_details("half")["replicas"]], serve_details("half")["required_resources"])
        print(visible("own", None, runtime_env={"env_vars": {"CUDA_VISIBLE_DEVICES": "7"}}))
        serve.delete("half")
        serve.delete("other")
        print(failure("fails", 1, False)[-30:])
        handle = start("lives", 1)
        print(handle.remote().result())
        before = handle.pid.remote().result()
        try:
            handle.die.remote().result()
        except Exception:
            pass
        print(handle.remote().result(), handle.pid.remote().result() != before)
        serve.delete("lives")
        serve.delete("whole")
        print(visible("two", 2))
        """, gpus=2)
    assert lines == [
        "0 0 1 '' ''",
        "replica more#ID waits for room on the node: needs 1 GPU, and 0 of 2 are free: whole/whole#ID holds 1, half/half#ID holds 0.5, other/other#ID holds 0.5",
        'application "most": deployment "most": ray_actor_options: replica 1 of 1 needs 3 GPUs, and this node has 2',
        'application "many": deployment "many": ray_actor_options: replica 3 of 3 needs 1 GPU, and 0 of 2 are free: many/many#1, many#2 hold 2',
        "[['0']] {'CPU': 1, 'GPU': 0.5}",
        "7",
        lines[6],
        "0",
        "0 True",
        "0,1",
    ]
    assert "the constructor fails" in lines[6]


def test_update_on_a_full_node(tmp_path):
    """An update changes the replicas of a deployment that holds every GPU: an old one makes room. No call is lost. So does a deployment that the
    application has no more."""
    lines, _ = run(tmp_path, """
        handle = start("model", 1, num_replicas=2)
        print(sorted({handle.remote().result() for _ in range(50)}))
        calls = [handle.remote() for _ in range(20)]
        handle = start("model", 1, num_replicas=2, runtime_env={"env_vars": {"RELEASE": "2"}})
        print(len([call.result() for call in calls]), {handle.remote("RELEASE").result() for _ in range(50)})
        print(sorted({handle.remote().result() for _ in range(50)}))
        d = serve.deployment(Model).options(name="renamed", ray_actor_options={"num_gpus": 2})
        print(serve.run(d.bind(), name="model", route_prefix=None).remote().result())
        """, gpus=2)
    assert lines == ["['0', '1']", "20 {'2'}", "['0', '1']", "0,1"]


def test_visible_devices_of_the_node(tmp_path):
    """CUDA_VISIBLE_DEVICES of the node names its devices; without GPUs the variable stays as it is."""
    assert run(tmp_path, 'print(visible("a", 1), visible("b", 1))', 2, CUDA_VISIBLE_DEVICES="5,3")[0] == ["5 3"]
    assert run(tmp_path, 'print(visible("a", None))', 0, CUDA_VISIBLE_DEVICES="5,3")[0] == ["5,3"]
    lines, _ = run(tmp_path, 'print(failure("a", 0.5))', 0)
    assert "needs 0.5 of a GPU, and this node has none (HELVE_GPUS=N states a number)" in lines[0]


def test_other_resources_are_recorded(tmp_path):
    """More than the machine has is a warning, once."""
    lines, log = run(tmp_path, """
        asks = {"num_cpus": 5000, "memory": 1 << 50, "resources": {"special": 2}, "accelerator_type": "A100"}
        print(start("model", None, ray_actor_options=asks, num_replicas=2).remote("HOME").result() is not None)
        start("model", None, ray_actor_options=asks, num_replicas=2)
        """, gpus=0)
    assert lines == ["True"]
    for text in ("2 replicas ask for 10000 CPUs, and the machine has", "GiB of memory, and the machine has", 'replicas ask for 4 of \\"special\\"'):
        assert log.count(text) == 1, log


def test_stated_resources(tmp_path):
    """A node gives out the CPUs, the memory and the other resources that were stated of it, and compares labels; a replica that does not fit waits, and its status says which replicas
    hold what is missing."""
    lines, log = run(tmp_path, """
        handle = start("first", None, ray_actor_options={"num_cpus": 2, "memory": 3 << 30, "resources": {"licence": 1}})
        print(start("threads", None, ray_actor_options={"num_cpus": 0}).remote("OMP_NUM_THREADS").result(), handle.remote("OMP_NUM_THREADS").result())
        serve.delete("threads")
        print(waits("cpus", {"num_cpus": 1.5}))
        print(waits("memory", {"num_cpus": 0, "memory": 2 << 30}))
        print(waits("licence", {"num_cpus": 0, "resources": {"licence": 1.5}}))
        print(failure("most", None, ray_actor_options={"num_cpus": 4}))
        print(failure("unknown", None, ray_actor_options={"resources": {"other": 1}}))
        print(failure("labels", None, ray_actor_options={"label_selector": {"region": "eu", "disk": "!hdd"}}))
        there = {"label_selector": {"region": "eu"}, "fallback_strategy": [{"label_selector": {"region": "in(us,uk)"}}]}
        print(start("there", None, ray_actor_options=there).remote("HOME").result() is not None)
        """, gpus=0, OMP_NUM_THREADS="", HELVE_NUM_CPUS="3", HELVE_MEMORY="4GiB", HELVE_RESOURCES="licence=2", HELVE_LABELS="region=us")
    assert lines == [
        "1 2",
        "replica cpus#ID waits for room on the node: needs 1.5 CPUs, and 1 of 3 are free: first/first#ID holds 2",
        "replica memory#ID waits for room on the node: needs 2 GiB of memory, and 1 GiB of 4 GiB are free: first/first#ID holds 3 GiB",
        'replica licence#ID waits for room on the node: needs 1.5 of "licence", and 1 of 2 are free: first/first#ID holds 1',
        'application "most": deployment "most": ray_actor_options: replica 1 of 1 needs 4 CPUs, and 3 of 3 are free',
        'application "unknown": deployment "unknown": ray_actor_options: replica 1 of 1 needs 1 of "other", and this node has none (--resources states what it has)',
        'application "labels": deployment "labels": ray_actor_options: replica 1 of 1 needs the label region=eu, and the node has "us"',
        "True",
    ]
    assert "a replica waits for room on the node" in log
