"""The request of lines that are printed or logged outside of the loggers of Helve: by prints, threads, pools and tasks."""

import re
import subprocess
import sys

import pytest

from ports import free_port

PROGRAM = """
import asyncio, concurrent.futures, gc, logging, sys, threading, urllib.request, warnings
from helve import serve

pool = None

def fail():
    print("in a thread")
    raise ValueError("of a thread")

@serve.deployment
class Model:
    async def __call__(self, request):
        global pool
        if pool is None:
            pool = concurrent.futures.ThreadPoolExecutor(1)
        print("printed", "at", "once\\nand below")
        print("in two ", end="")
        print("parts")
        sys.stderr.write("to stderr\\n")
        warnings.warn("a warning")
        logging.getLogger("other").warning("of another logger", extra={"model": "a"})
        await asyncio.wrap_future(pool.submit(print, "in a pool"))
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()

        async def failing():
            raise KeyError("of a task")

        task = asyncio.create_task(failing())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        del task
        gc.collect()
        print("x" * 200_000)
        print("end")
        return "ok"

    def __del__(self):
        print("in the destructor", end="")

serve.start(http_options={"port": int(sys.argv[1])})
serve.run(Model.bind())
for id in ("r-1", "r-2"):
    urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{sys.argv[1]}/", headers={"x-request-id": id})).read()
serve.shutdown()
"""


PRINTED = {"printed at once", "and below", "in two parts", "in a pool", "in a thread", "end", "in the destructor"}


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    """(request, text) of the lines of the replica."""
    port = free_port()
    script = tmp_path_factory.mktemp("origins") / "program.py"
    script.write_text(PROGRAM)
    ran = subprocess.run([sys.executable, str(script), str(port)], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    return [(m[1] or "", m[2]) for m in (re.match(r"\(Model#\w+(?: (\S+))?\) (.*)", line) for line in ran.stderr.splitlines()) if m]


@pytest.mark.parametrize("id", ["r-1", "r-2"])
def test_lines_have_their_request(lines, id):
    of = [text for request, text in lines if request == id]
    for text in (
        "printed at once", "and below", "in two parts", "to stderr", "other -- of another logger", "in a pool", "in a thread",
        "asyncio -- Task exception was never retrieved", "  KeyError: 'of a task'", "end",
    ):
        assert of.count(text) == 1, (text, of)
    if id == "r-1":  # Python shows a warning of a line once
        assert any(line.endswith("UserWarning: a warning") for line in of)


def test_an_exception_of_a_thread_is_a_record(lines):
    # A printed line comes by another pipe, so it may stand between the lines of one record.
    texts = [text for _, text in lines if text not in PRINTED and not text.startswith("xxx")]
    [at, _] = [i for i, text in enumerate(texts) if re.search(r"ERROR .* r-[12] -- Exception in thread Thread-\d+", text)]
    assert texts[at + 1] == "  Traceback (most recent call last):" and "in fail" in texts[at + 2]
    assert "  ValueError: of a thread" in texts[at + 3 : at + 6]


def test_long_lines_are_cut(lines):
    assert [len(text) < 70_000 for _, text in lines if text.startswith("xxx")] == [True, True]


def test_the_last_line_needs_no_end(lines):
    assert ("", "in the destructor") in lines
