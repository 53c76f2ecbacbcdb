"""The packages ray._common and ray._private, of which only test_utils is there."""

from helve import _refused

__path__: list = []
__all__ = ["test_utils"]


def _load(name: str):
    if name != "test_utils":
        raise KeyError(name)
    from helve.raycompat import testing

    return testing


__getattr__ = _refused.attributes("ray._private", _load, __all__)
