"""A Mosec server whose one worker answers with the body of the request. It prints its address when it serves, and ends with its standard
input. If Mosec is not installed it prints "missing mosec".
"""

import os
import signal
import socket
import sys
import threading
import time

sys.argv[1:] = ["--log-level", "error"]  # Mosec reads it when it is imported
try:
    from mosec import Server, Worker
except ImportError:
    print("missing mosec", flush=True)
    sys.exit()


class Noop(Worker):
    def deserialize(self, data):
        return data

    def serialize(self, data):
        return data

    def forward(self, data):
        return data


def announce(address):
    while True:
        with socket.socket() as s:
            if s.connect_ex(address) == 0:
                break
        time.sleep(0.02)
    print("%s:%d" % address, flush=True)
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":  # Mosec starts this file again for its worker
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    sys.argv += ["--address", address[0], "--port", str(address[1])]
    threading.Thread(target=announce, args=(address,), daemon=True).start()
    server = Server()
    server.append_worker(Noop)
    server.run()
