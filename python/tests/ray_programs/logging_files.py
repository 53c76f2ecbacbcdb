"""JSON logs of a replica in a directory of the program."""

import json
import logging
import os
import glob
import tempfile
import requests
import ray
from ray import serve
from ray.serve.schema import LoggingConfig

logger = logging.getLogger("ray.serve")
logs = tempfile.mkdtemp()


@serve.deployment(logging_config={"encoding": "JSON", "logs_dir": logs, "log_level": "DEBUG"})
class Model:
    def __call__(self, req) -> str:
        logger.debug("hello debug")
        logger.info("hello info", extra={"serve_access_log": False})
        return [h.level for h in logger.handlers] and "ok"


serve.run(Model.bind(), name="app1")
print(requests.get("http://localhost:8000/", headers={"X-Request-ID": "rid"}).text)
serve.shutdown()
import time
lines = []
for _ in range(50):
    for f in glob.glob(logs + "/*"):
        if "replica" in f:
            lines = [json.loads(l) for l in open(f) if l.strip().startswith("{")]
    if any("hello debug" in l.get("message", "") for l in lines):
        break
    time.sleep(0.1)
one = [l for l in lines if l.get("message") == "hello debug"][0]
print({k: one.get(k) for k in ("levelname", "request_id", "route", "application", "deployment", "message", "component_name")}, "replica" in one, "asctime" in one, "filename" in one)
