# noqa: INP001  (not a package: a folder for PYTHONPATH)
"""Python imports this module by its name at start when its folder is on PYTHONPATH (see tests/conftest.py)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
try:
    from tests.network_guard import install
finally:
    del sys.path[0]

install()
