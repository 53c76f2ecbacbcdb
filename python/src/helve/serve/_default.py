"""The mark of an option that was not passed."""

from enum import Enum


class DEFAULT(Enum):
    """The value of an option that was not passed, where None is a value of its own."""

    VALUE = 1


__all__ = ["DEFAULT"]
