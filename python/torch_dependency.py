"""For pyproject.toml: a wheel depends on the torch it is built for, the one that is installed.

A build front end such as pip builds in an environment of its own, where that torch is not seen; it is asked for in a Python
that ignores such an environment, and nothing is downloaded. Without one, the line to type is all there is to say.
"""

import os
import pathlib
import subprocess
import sys

OLDEST = (2, 9)
VERSION = "import importlib.metadata as m; print(m.version('torch'))"


def pythons():
    """Commands that start the Pythons whose torch may be meant, the nearest first."""
    yield [sys.executable]
    yield [sys.executable, "-I"]
    if os.environ.get("VIRTUAL_ENV"):
        yield [str(pathlib.Path(os.environ["VIRTUAL_ENV"], "bin", "python"))]


def dynamic_metadata(field, settings=None):
    assert field == "dependencies", field
    for python in pythons():
        found = subprocess.run([*python, "-c", VERSION], capture_output=True, text=True)
        if found.returncode == 0:
            version = found.stdout.strip().partition("+")[0]
            if tuple(map(int, version.split(".")[:2])) < OLDEST:
                sys.exit(
                    f"aurora-optim needs torch 2.9 or newer, and {python[0]} has {version}. Type:\n"
                    "    pip install -U torch && pip install ."
                )
            return ["torch==" + version]
    sys.exit(
        f"aurora-optim is built for the torch that is installed, and {sys.executable} has none. Type:\n"
        "    pip install torch && pip install ."
    )
