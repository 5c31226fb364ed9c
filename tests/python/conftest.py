"""The package as the CMake build left it: build/release/python, or the folder in AURORA_PYTHON_PATH."""

import os
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGES = pathlib.Path(os.environ.get("AURORA_PYTHON_PATH", ROOT / "build/release/python")).resolve()
BINARY = pathlib.Path(os.environ.get("AURORA_BINARY", ROOT / "build/release/aurora")).resolve()

if not list(PACKAGES.glob("aurora_optim/_core*.so")):
    pytest.exit(f"aurora_optim is not built in {PACKAGES}: run `cmake --build --preset release` (it needs Python.h)", 1)
sys.path.insert(0, str(PACKAGES))


@pytest.fixture(scope="session")
def root():
    return ROOT


@pytest.fixture(scope="session")
def packages():
    return PACKAGES


@pytest.fixture(scope="session")
def binary():
    if not BINARY.exists():
        pytest.fail(f"{BINARY} is not built")
    return BINARY


@pytest.fixture(autouse=True)
def _one_thread_and_one_seed():
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
