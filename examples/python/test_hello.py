"""The application of hello.py in the process of a test: python -m pytest examples/python"""

from hello import app

from helve import serve


def test_greeting():
    handle = serve.run(app, _local_testing_mode=True)
    assert handle.remote("world").result() == "Hello world!"
