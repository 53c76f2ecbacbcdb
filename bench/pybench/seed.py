"""The seed program, kept alive until its standard input ends, so that its memory can be read."""

import importlib.util
import os
import sys

path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "examples", "python", "hello.py")
spec = importlib.util.spec_from_file_location("hello", path)
hello = importlib.util.module_from_spec(spec)
sys.modules["hello"] = hello
sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
spec.loader.exec_module(hello)

handle = hello.serve.run(hello.app)
print(handle.remote("world").result(), flush=True)
sys.stdin.read()
