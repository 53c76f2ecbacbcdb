"""`make ray-programs`: runs the programs of ray_programs with Ray Serve itself and writes their output beside them. It needs an interpreter
that has Ray. A program that fails keeps its former output.
"""

import os
import subprocess
import sys
from pathlib import Path

# Ray gives each replica a CPU unless the program says otherwise, and a small machine would have too few.
START = """
import functools, runpy, sys
import ray
ray.init = functools.partial(ray.init, num_cpus=16, include_dashboard=False, log_to_driver=False, ignore_reinit_error=True)
ray.init()
runpy.run_path(sys.argv[1], run_name="__main__")
"""
RAYS_OWN = "(raylet)"  # lines of Ray about itself, which go to the standard output of the program


def main(names):
    failed = False
    for path in sorted(Path(__file__).with_name("ray_programs").glob("*.py")):
        if names and path.stem not in names:
            continue
        done = subprocess.run([sys.executable, "-c", START, path], capture_output=True, text=True, timeout=600, env={**os.environ, "RAY_DEDUP_LOGS": "0"})
        if done.returncode:
            print(f"{path.name} failed\n{done.stderr[-2000:]}", file=sys.stderr)
            failed = True
            continue
        path.with_suffix(".out").write_text("".join(line for line in done.stdout.splitlines(True) if RAYS_OWN not in line))
        print(path.name)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
