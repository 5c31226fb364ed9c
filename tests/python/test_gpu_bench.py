"""bench/gpu.py, on the CPU where there is no GPU."""

import json
import os
import subprocess
import sys

import pytest
import torch


@pytest.fixture
def bench(root, packages, binary):
    def run(*arguments):
        return subprocess.run(
            [sys.executable, str(root / "bench/gpu.py"), "--binary", str(binary), *map(str, arguments)],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(packages), "OMP_NUM_THREADS": "1"},
        )

    return run


def test_the_whole_script_runs_on_the_cpu(bench, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("".join(f"line {i * i % 97} of some text\n" for i in range(400)))
    result = bench("--device", "cpu", "--tiny", "--data", text, "--json", tmp_path / "rows", "--out", tmp_path / "table.md")
    assert result.returncode == 0, result.stderr
    rows = [json.loads(line) for line in (tmp_path / "rows").read_text().splitlines()]
    parts = [row["part"] for row in rows]
    assert sorted(set(parts)) == ["adamw", "direction", "machine", "step", "training"]
    assert [row["optimizer"] for row in rows if row["part"] == "training"] == ["aurora", "muon", "adamw"]
    for row in rows:
        assert all(value > 0 for value in row.values() if isinstance(value, float)), row
    # Aurora's rows are even, those of the published bf16 rule less so.
    cv = {row["name"]: row["row_norm_cv"] for row in rows if row.get("shape") == "48x16"}
    assert cv["aurora"] < cv["today bf16"] < cv["muon"]
    table = (tmp_path / "table.md").read_text()
    assert all(word in table for word in ("torch Muon / aurora", "tokens_per_second", "48x16"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(bench):
    result = bench()
    assert result.returncode == 1
    assert len(result.stderr.strip().splitlines()) == 1 and "no CUDA device" in result.stderr
