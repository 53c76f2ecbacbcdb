"""The module ``ray`` of processes that a program under `helve run --ray-compat` starts. Its directory is on their PYTHONPATH, and it has nothing
but this: the first `import ray` installs Helve's, in place of this module.
"""

import sys

from helve import raycompat

del sys.modules["ray"]
raycompat.install()

import ray  # noqa: E402, F401
