"""Runs the cases of a module in several processes, once for each number of them."""

import functools
import json
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
LIMIT = 240  # seconds


@functools.cache
def results(module, world, packages, shared=""):
    """What each case left in each process: {case: [error of rank 0, ...]}."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **os.environ, "PYTHONPATH": os.pathsep.join([str(packages), str(HERE)]),
            "OMP_NUM_THREADS": "1", "AURORA_TEST_SHARED": str(shared),
        }  # fmt: skip
        command = [sys.executable, str(HERE / "ranks_worker.py")]
        processes = [
            subprocess.Popen(
                [*command, str(rank), str(world), folder, module], env=environment, stderr=subprocess.PIPE, text=True
            )
            for rank in range(world)
        ]
        outputs = []
        try:
            outputs = [process.communicate(timeout=LIMIT)[1] for process in processes]
        finally:
            for process in processes:
                process.kill()
        found = {}
        for rank in range(world):
            path = pathlib.Path(folder) / f"results.{rank}.json"
            assert path.exists(), outputs
            for case, result in json.loads(path.read_text()).items():
                found.setdefault(case, []).append(result["error"])
        return found


def require(module, world, case, packages, shared=""):
    found = results(module, world, packages, shared)
    assert len(found.get(case, ())) == world, f"{case} did not end in every process: {found.keys()}"
    errors = {rank: error for rank, error in enumerate(found[case]) if error}
    assert not errors, "\n".join(f"rank {rank}: {error}" for rank, error in errors.items())
