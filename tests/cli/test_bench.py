"""`aurora bench`: what a step costs here, and the quality of its direction."""

import json

import numpy as np
from conftest import aurora, log_of, trained
from safetensors.numpy import load_file, save_file


def bench(*flags):
    result = aurora("bench", "--rounds", 2, "--json", *flags)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)["rows"]


def test_a_row_for_every_shape_thread_count_and_optimizer():
    rows = bench("--shapes", "48x16,16x16", "--threads", "1,2", "--optimizers", "adamw,muon,aurora:pp_iterations=3")
    assert [(r["shape"], r["threads"], r["optimizer"]) for r in rows] == [
        (shape, threads, optimizer)
        for shape in ([48, 16], [16, 16])
        for threads in (1, 2)
        for optimizer in ("adamw", "muon", "aurora:pp_iterations=3")
    ]
    for row in rows:
        assert row["matrices"] == 4 and row["step_ms"] > 0 and row["gemm_gflops"] > 0
        assert abs(row["matrix_ms"] * 4 - row["step_ms"]) < 1e-9
        assert (row["alignment"] is None) == (row["optimizer"] == "adamw")


def test_the_way_to_the_polar_factor_is_named_and_can_be_fixed():
    ways = {}
    for polar in ("auto", "exact", "keller-jordan-5"):
        (row,) = bench("--shapes", "64x16", "--family", "gauss", "--optimizers", f"muon:polar={polar}")
        ways[polar] = row["pipeline"]
        assert (row["orthogonality_error"] < 1e-4) == (polar != "keller-jordan-5")
        assert row["stages"]["product"]["gflop"] > 0
    assert ways == {
        "auto": "exact-halley",
        "exact": "exact-halley",
        "keller-jordan-5": "products",
    }


def test_measures_the_quality_of_the_direction_of_a_file(tmp_path):
    rng = np.random.default_rng(0)
    gradient = (rng.standard_normal((24, 6)) * np.exp(rng.standard_normal((24, 1)))).astype(np.float32)
    save_file({"a": gradient, "vector": np.ones(3, np.float32)}, tmp_path / "g.safetensors")
    (row,) = bench("--in", tmp_path / "g.safetensors", "--optimizers", "muon")
    u, s, v = np.linalg.svd(gradient.astype(np.float64), full_matrices=False)
    lengths = np.linalg.norm(u @ v, axis=1)
    assert row["name"] == "a" and row["shape"] == [24, 6]
    # The first step's blended gradient is the gradient times a number.
    assert abs(row["alignment"] - s.sum()) < 1e-4 * s.sum()
    assert abs(row["row_norm_cv"] - lengths.std() / lengths.mean()) < 1e-4


def test_the_table_has_times_and_stages():
    result = aurora("bench", "--shapes", "32x8", "--rounds", 1, "--quiet")
    assert result.returncode == 0 and result.stderr == ""
    assert "ms/step" in result.stdout and "32x8" in result.stdout and "gram" in result.stdout


def test_bad_flags_are_named(tmp_path):
    for flags, words in {
        ("--shapes", "48"): ("--shapes", "48"),
        ("--shapes", "1x8"): ("--shapes", "1x8"),
        ("--family", "flat"): ("--family", "pow1+logn", "flat"),
        ("--threads", "x"): ("--threads", "x"),
        ("--optimizers", "muon,auroro"): ("auroro", "aurora"),
        ("--in", "a", "--shapes", "4x4"): ("--in", "--shapes"),
    }.items():
        result = aurora("bench", *flags)
        assert result.returncode == 2 and result.stderr.count("\n") == 1, result.stderr
        assert all(word in result.stderr for word in words), result.stderr
    result = aurora("bench", "--in", tmp_path / "none.safetensors")
    assert result.returncode == 1 and "none.safetensors" in result.stderr


def test_recorded_momentum_is_that_of_the_optimizer_and_feeds_bench(text, tmp_path):
    run = trained(text, tmp_path / "run", "--steps", 7, "--save-momentum", 3)
    files = sorted(run.glob("momentum-*"))
    assert [file.name for file in files] == [f"momentum-00000{step}.safetensors" for step in (3, 6, 7)]
    momentum, state = load_file(files[-1]), load_file(run / "checkpoint-000007" / "optimizer.safetensors")
    assert momentum and all(name.startswith("model.layers.") for name in momentum)
    for name, matrix in momentum.items():
        assert matrix.ndim == 2 and np.array_equal(matrix, state[name + ".momentum_buffer"])
    assert {row["name"] for row in bench("--in", files[0], "--optimizers", "aurora")} == set(momentum)


def test_runs_without_recorded_momentum_are_the_same_runs(text, tmp_path):
    plain, recorded = trained(text, tmp_path / "a", "--steps", 4), tmp_path / "b"
    trained(text, recorded, "--steps", 4, "--save-momentum", 2)
    assert not list(plain.glob("momentum-*"))
    losses = [[r["loss"] for r in log_of(run) if r["kind"] == "train"] for run in (plain, recorded)]
    assert losses[0] == losses[1]
    # A run folder from before the setting existed goes on.
    config = plain / "config.toml"
    config.write_text("".join(line for line in config.read_text().splitlines(True) if "save_momentum" not in line))
    result = aurora("train", "--resume", "--out", plain, "--steps", 6)
    assert result.returncode == 0, result.stderr
