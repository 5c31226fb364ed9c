"""A user's script under mypy and pyright: what is right passes, and a wrong keyword does not."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).with_name("typed_script.py")
WRONG = 'from aurora_optim import Aurora\nfrom torch import nn\n\nAurora(nn.Linear(4, 4), scale="spectral")\n'


def checked(tool, file, packages, tmp_path):
    arguments = {
        "mypy": ["-m", "mypy", "--strict", "--allow-untyped-calls", "--cache-dir", str(tmp_path / "cache")],
        "basedpyright": ["-m", "basedpyright", "--level", "error", "--pythonpath", sys.executable],
    }[tool]
    environment = {**os.environ, "PYTHONPATH": str(packages), "MYPYPATH": str(packages)}
    return subprocess.run(
        [sys.executable, *arguments, str(file)], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280
    )


@pytest.mark.parametrize("tool", ["mypy", "basedpyright"])
def test_a_users_script_has_the_types_that_it_needs(tool, packages, tmp_path):
    if importlib.util.find_spec(tool) is None:
        pytest.skip(f"needs {tool}: requirements-test.txt")
    (tmp_path / "pyrightconfig.json").write_text(f'{{"typeCheckingMode": "standard", "extraPaths": ["{packages}"]}}')
    for name, text, passes in (("right.py", SCRIPT.read_text(), True), ("wrong.py", WRONG, False)):
        (tmp_path / name).write_text(text)
        result = checked(tool, tmp_path / name, packages, tmp_path)
        assert (result.returncode == 0) == passes, result.stdout + result.stderr
