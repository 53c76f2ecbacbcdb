"""A durable node, of `helve start`, that tests talk to, and the programs beside it."""

import os
import subprocess
import sys

from eventually import eventually
from running import Running

from helve import _find

ENVIRONMENT = {k: v for k, v in os.environ.items() if k == "HELVE_STATE_DIR" or not k.startswith("HELVE_")}


class Durable:
    """A durable node, and the programs beside it. It has a runtime directory of its own: programs of other tests do not find it."""

    def __init__(self, directory):
        self.state, self.runtime = str(directory / "state"), str(directory / "run")
        os.mkdir(self.runtime)
        self.directory, self.environment = directory, {"HELVE_RUNTIME_DIR": self.runtime}
        self.command = self.start()

    def start(self):
        """The command that starts the node, also again after its processes have ended."""
        return Running("start", "--state-dir", self.state, "--http", "127.0.0.1:0", "--admin", "private", cwd=self.directory, env=self.environment)

    def pid(self):
        """The process of the node that runs now, as soon as one does."""

        def dial():
            try:
                sock, _, pid = _find.dial(self.state, "ask")
            except _find.NotThereError:
                return None
            sock.close()
            return pid

        return eventually(dial)

    def python(self, *args, cwd=None, **env):
        """The end of a program."""
        return subprocess.run(
            [sys.executable, *map(str, args)], cwd=cwd, env={**ENVIRONMENT, **self.environment, **env}, capture_output=True, text=True, timeout=120,
        )

    def script(self, code, **env):
        """The output of a program."""
        done = self.python("-c", "from helve import serve\n" + code, **env)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()
