"""The programs in examples/, at small sizes."""

import os
import re
import subprocess
import sys

import pytest
import torch


@pytest.fixture
def example(root, packages, tmp_path):
    def run(name, *arguments):
        environment = {**os.environ, "PYTHONPATH": str(packages), "OMP_NUM_THREADS": "1"}
        result = subprocess.run(
            [sys.executable, root / "examples" / name, *map(str, arguments)],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        return result.stdout

    return run


def last_number(pattern, text):
    return float(re.findall(pattern, text)[-1])


def test_from_torchs_muon_to_aurora(example):
    out = example("muon_to_aurora.py")
    assert "hidden matrix" in out and last_number(r"^loss (\S+)$", out.splitlines()[-1]) < 0.5


def test_the_training_loop_learns_and_resumes(example, root, tmp_path):
    text = root / "docs/math.md"
    small = ["--text", text, "--width", 32, "--layers", 1, "--heads", 2, "--context", 32, "--batch", 8, "--accumulate", 2]
    out = example("train_gpt.py", *small, "--steps", 40, "--eval-every", 20, "--out", "whole.pt")
    assert last_number(r"validation loss (\S+),", out) < 4.5
    saved = torch.load(tmp_path / "whole.pt", weights_only=True)
    assert saved["step"] == 40 and saved["optimizer"]["param_groups"][0]["blocks"] == 3
    resumed = example("train_gpt.py", *small, "--steps", 60, "--eval-every", 20, "--out", "whole.pt", "--resume")
    assert resumed.startswith("step 60:")


def test_the_trainer_of_transformers(example):
    pytest.importorskip("accelerate")
    assert last_number(r"^loss (\S+)$", example("hugging_face_trainer.py", "--steps", 20).splitlines()[-1]) < 3.5


def test_every_python_example_is_run_here(root):
    tested = open(__file__).read()
    for file in (root / "examples").glob("*.py"):
        assert f'"{file.name}"' in tested
