"""A client of the fault tests in Python: python client.py NAME DIRECTORY CALLERS.

Its threads call the ledger all the time, and write into files which calls were answered and which failed. Lines of JSON on standard input have it deploy and
delete applications; the answer to each is a line on standard output. The end of standard input ends it in order.
"""

import json
import os
import sys
import threading
import time

from helve import serve

from ledger import Extra, ledger, write

PATIENCE = 60  # seconds after which a call counts as one that hangs


def calls(name, place, number, stop):
    handle, count = None, 0
    while not stop.is_set():
        count += 1
        id, begin = f"{name}-{number}-{count}", time.time_ns()
        try:
            if handle is None:
                handle = serve.get_app_handle("ledger")
            handle.note.remote(id).result(timeout_s=PATIENCE)
        except Exception as e:
            text = " ".join(str(e).split())
            write(place, f"failed.{name}", f"{id} {begin} {time.time_ns()} {type(e).__name__} {text}")
            stop.wait(0.02)  # a node that is away refuses at once, and would be asked without an end
        else:
            write(place, f"answered.{name}", f"{id} {begin} {time.time_ns()}")


def act(place, op, app, version=""):
    if op == "delete":
        serve.delete(app)
    elif app == "ledger":
        serve.run(ledger(place, version), name=app, route_prefix="/ledger")
    else:
        serve.run(Extra.bind(app), name=app, route_prefix=None)


def main():
    name, place, callers = sys.argv[1], sys.argv[2], int(sys.argv[3])
    stop, threads = threading.Event(), []
    for line in sys.stdin:
        request = json.loads(line)
        error = ""
        try:
            if request["op"] == "load":
                threads = [threading.Thread(target=calls, args=(name, place, n, stop)) for n in range(callers)]
                for t in threads:
                    t.start()
            else:
                act(place, **request)
        except Exception as e:
            error = f"{type(e).__name__}: {e}"
        print(json.dumps({"error": error}), flush=True)
    stop.set()
    for t in threads:
        t.join()


if __name__ == "__main__":
    main()
