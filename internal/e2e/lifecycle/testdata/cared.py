"""The Python twin of Cared in pycared_test.go."""

import os


class Cared:
    def __init__(self):
        self.config, self.sick = None, False

    async def reconfigure(self, config):
        if config["word"] == "bad":
            raise ValueError("a bad word")
        self.config = config

    def check_health(self):
        if self.sick:
            raise RuntimeError("sick")

    def word(self):
        return self.config["word"]

    def pid(self):
        return os.getpid()

    def fall_sick(self):
        self.sick = True
        return os.getpid()


class Sick(Cared):
    def __init__(self):
        super().__init__()
        self.sick = True


class Plain:
    def pid(self):
        return os.getpid()
