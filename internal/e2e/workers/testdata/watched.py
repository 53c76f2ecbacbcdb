"""The Python twin of Watched in supervise_test.go."""

import logging
import os
import resource
import signal
import sys
import time


class Watched:
    def env(self, name):
        return os.environ.get(name, "")

    def dir(self):
        return os.getcwd()

    def files(self):
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]

    def say(self, text):
        print(text)
        print(text, file=sys.stderr)
        logging.getLogger("ray.serve").info("ray %s", text)
        logging.getLogger("mine").error("mine %s\nsecond", text)

    def signals(self):
        for s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(os.getpid(), s)
        return "lives"

    def end(self, how):
        print("last words", file=sys.stderr)
        if how == "exit":
            os._exit(3)
        os.kill(os.getpid(), signal.SIGSEGV)

    def eat(self, mib):
        return len(bytearray(mib << 20))

    def spin_until(self, path):
        while not os.path.exists(path):
            time.sleep(0.01)
        return "done"
