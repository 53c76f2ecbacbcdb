"""A constructor that works the second time, failing health checks, a process that dies, updates under load, run_many, shutdown."""

import os
import tempfile
import time
import requests
import ray
from ray import serve
from ray.serve.schema import ApplicationStatus

flag = os.path.join(tempfile.mkdtemp(), "flag")


@serve.deployment(max_constructor_retry_count=5)
class SecondTime:
    def __init__(self, flag):
        if not os.path.exists(flag):
            open(flag, "w").close()
            raise RuntimeError("first time")

    def __call__(self, request=None):
        return "worked"


print(serve.run(SecondTime.bind(flag), name="second", route_prefix="/second").remote().result())


@serve.deployment(num_replicas=1, health_check_period_s=0.1, health_check_timeout_s=1)
class Sick:
    def __init__(self):
        self.sick = False

    def check_health(self):
        if self.sick:
            raise RuntimeError("I am sick")

    def fall_ill(self):
        self.sick = True
        return os.getpid()

    def pid(self):
        return os.getpid()


h = serve.run(Sick.bind(), name="sick", route_prefix=None)
pid = h.fall_ill.remote().result()
for _ in range(200):
    try:
        if h.pid.remote().result() != pid:
            print("replaced")
            break
    except Exception:
        pass
    time.sleep(0.1)


@serve.deployment
class Dies:
    def __call__(self):
        os._exit(1)

    def fine(self):
        return "fine"


d = serve.run(Dies.bind(), name="dies", route_prefix=None)
try:
    d.remote().result(timeout_s=20)
except Exception as e:
    print("died", isinstance(e, ray.exceptions.RayActorError) or type(e).__name__)
for _ in range(100):
    try:
        print(d.fine.remote().result(timeout_s=5))
        break
    except Exception:
        time.sleep(0.1)


@serve.deployment(num_replicas=2)
class V:
    def __init__(self, v):
        self.v = v

    def __call__(self, request):
        return str(self.v)


serve.run(V.bind(1), name="v", route_prefix="/v")
import threading
stop, bad, seen = threading.Event(), [], set()


def load():
    while not stop.is_set():
        r = requests.get("http://localhost:8000/v")
        (bad.append(r.status_code) if r.status_code != 200 else seen.add(r.text))


t = threading.Thread(target=load)
t.start()
serve.run(V.bind(2), name="v", route_prefix="/v")
for _ in range(20):
    requests.get("http://localhost:8000/v")
stop.set()
t.join()
print(bad, requests.get("http://localhost:8000/v").text)


@serve.deployment
class Bad2:
    def __init__(self):
        raise ValueError("v3 is bad")


try:
    serve.run(Bad2.options(name="V", max_constructor_retry_count=1).bind(), name="v", route_prefix="/v")
except RuntimeError as e:
    print("failed")
print(serve.status().applications["v"].status)
try:
    serve.run(V.options(name="other").bind(1), name="same", route_prefix="/v")
except Exception as e:
    print(isinstance(e, serve.exceptions.RayServeException))
handles = serve.run_many([serve.RunTarget(V.bind(7), name="m1", route_prefix="/m1"), serve.RunTarget(V.bind(8), name="m2", route_prefix="/m2")])
print(len(handles), requests.get("http://localhost:8000/m1").text, requests.get("http://localhost:8000/m2").text)
serve.shutdown()
print(serve.status().applications)
