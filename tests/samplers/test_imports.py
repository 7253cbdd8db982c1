"""Each module is importable first, whatever was or was not imported before it."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import importlib, pkgutil, sys, torch, samplers
names = sorted(module.name for module in pkgutil.walk_packages(samplers.__path__, "samplers."))
for name in names:
    for loaded in [known for known in sys.modules if known.startswith("samplers.")]:
        del sys.modules[loaded]
    importlib.import_module(name)
print(len(names))
"""


def test_every_module_can_be_imported_first() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20
