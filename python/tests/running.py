"""A `helve run` that tests talk to while it runs: its lines, its answers, and a client that must lose nothing."""

import http.client
import re
import signal
import subprocess
import sys
import threading
import urllib.parse

from programs import ENVIRONMENT

LIMIT = 120  # seconds


class Running:
    """The command in a process of its own. Its lines are read by a thread, and wait() looks for one."""

    def __init__(self, *args, cwd, env=None, python=True):
        command = [sys.executable, "-m", "helve"] if python is True else [python]
        self.process = subprocess.Popen(
            [*command, *map(str, args)], cwd=cwd, env={**ENVIRONMENT, **(env or {})},
            stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True,
        )
        self.lines, self.at, self.over = [], 0, False
        self.changed = threading.Condition()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(LIMIT)
            finally:
                self.process.kill()
                self.process.wait()

    def _read(self):
        for line in self.process.stdout:
            with self.changed:
                self.lines.append(line)
                self.changed.notify_all()
        with self.changed:
            self.over = True
            self.changed.notify_all()

    def wait(self, pattern):
        """The match of the next line that has the pattern, behind those that were found before."""
        with self.changed:
            while True:
                while self.at < len(self.lines):
                    self.at += 1
                    found = re.search(pattern, self.lines[self.at - 1])
                    if found:
                        return found
                if self.over or not self.changed.wait(LIMIT):
                    raise AssertionError(f"no line {pattern!r} in:\n{self.text()}")

    def url(self):
        return self.wait(r"ready at (http://\S+?)\.?$")[1]

    def text(self):
        return "".join(self.lines)

    def end(self, sign=signal.SIGINT):
        """The exit status after a signal, and all lines."""
        self.process.send_signal(sign)
        return self.ended()

    def ended(self):
        code = self.process.wait(LIMIT)
        self.reader.join(LIMIT)
        return code, self.text()


def ask(url, body=b"x"):
    """The answer to one request, as text."""
    at = urllib.parse.urlsplit(url)
    c = http.client.HTTPConnection(at.hostname, at.port, timeout=LIMIT)
    try:
        c.request("POST", at.path or "/", body, {"content-type": "text/plain"})
        answer = c.getresponse()
        text = answer.read().decode()
        assert answer.status == 200, f"{answer.status}: {text}"
        return text
    finally:
        c.close()


class Client:
    """Sends one request after the other until it is left, and raises if one of them has failed."""

    def __init__(self, url):
        self.url, self.answers, self.error = url, set(), None
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        try:
            while not self.stop.is_set():
                self.answers.add(ask(self.url))
        except BaseException as e:
            self.error = e

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.stop.set()
        self.thread.join(LIMIT)
        if self.error is not None:
            raise self.error
