"""The packages ray._common and ray._private, of which only test_utils is there."""

from helve import _refused

__path__: list = []
__all__: list = []
__getattr__ = _refused.attributes("ray._private")
