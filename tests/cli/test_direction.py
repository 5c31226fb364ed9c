"""`aurora direction` against NumPy."""

import json

import numpy
import pytest
from conftest import assert_one_line, aurora
from safetensors.numpy import load_file, save_file

TOLERANCE = {"float64": 1e-11, "float32": 1e-5}
SHAPES = [(24, 8), (8, 24), (16, 16), (65, 7), (1, 9), (9, 1), (1, 1)]


def polar(g):
    u, s, v = numpy.linalg.svd(g, full_matrices=False)
    keep = s > s.max(initial=0) * max(g.shape) * 2.0**-52
    return (u * keep) @ v


def unit_rows(u, length):
    return u * (length / numpy.linalg.norm(u, axis=1, keepdims=True))


def aurora_direction(g, iterations=2, beta=0.5):
    m, n = g.shape
    if m <= n:
        return polar(g)
    d = 1 / numpy.linalg.norm(g, axis=1)
    for k in range(iterations):
        u = polar(d[:, None] * g)
        if k + 1 < iterations:
            d = d * (n / m / (u * u).sum(axis=1)) ** beta
    return u


def odds_direction(g):
    """Two evaluations; Gaussian matrices need no step back."""
    m, n = g.shape
    if m <= n:
        return polar(g)
    d = 1 / numpy.linalg.norm(g, axis=1)
    h = (polar(d[:, None] * g) ** 2).sum(axis=1)
    r = h.mean()
    return polar((d * numpy.sqrt(r / (1 - r) * (1 - h) / h))[:, None] * g)


def u_normuon(g):
    m, n = g.shape
    u = polar(g)
    return unit_rows(u, numpy.sqrt(n / m)) if m > n else u


def normuon(g):
    u = polar(g)
    even = unit_rows(u, 1)
    return even * (numpy.linalg.norm(u) / numpy.linalg.norm(even))


EXPECTED = {
    "muon": polar,
    "aurora": odds_direction,
    "aurora:balance=release": aurora_direction,
    "aurora:pp_iterations=3+pp_beta=0.25+balance=release": lambda g: aurora_direction(g, 3, 0.25),
    "u-normuon": u_normuon,
    "normuon": normuon,
}


def gradients(dtype):
    chance = numpy.random.default_rng(7)
    return {f"{m}x{n}": chance.standard_normal((m, n)).astype(dtype) for m, n in SHAPES}


def directions(tmp_path, tensors, optimizer, *flags):
    save_file(tensors, tmp_path / "g.safetensors")
    result = aurora("direction", "--in", tmp_path / "g.safetensors", "--optimizer", optimizer, "--out",
                    tmp_path / "u.safetensors", "--json", *flags)
    assert result.returncode == 0, result.stderr
    return load_file(tmp_path / "u.safetensors"), json.loads(result.stdout)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("optimizer", EXPECTED)
def test_a_direction_is_that_of_numpy(tmp_path, optimizer, dtype):
    tensors = gradients(dtype)
    found, _ = directions(tmp_path, tensors, optimizer)
    assert set(found) == set(tensors)
    for name, g in tensors.items():
        expected = EXPECTED[optimizer](g.astype("float64"))
        assert found[name].dtype == g.dtype
        worst = numpy.abs(found[name] - expected).max()
        assert worst < TOLERANCE[dtype], f"{name}: {worst}"


def test_set_changes_the_options(tmp_path):
    tensors = {"w": gradients("float64")["24x8"]}
    settings = ["optim.balance=release", "optim.pp_iterations=5", "optim.pp_beta=0.3"]
    found, _ = directions(tmp_path, tensors, "aurora", *(word for s in settings for word in ("--set", s)))
    numpy.testing.assert_allclose(found["w"], aurora_direction(tensors["w"], 5, 0.3), atol=1e-11)


def test_a_schedule_is_applied_as_published(tmp_path):
    g = gradients("float64")["24x8"]
    found, _ = directions(tmp_path, {"w": g}, "muon:polar=keller-jordan-5")
    x = g / numpy.linalg.norm(g)
    for _ in range(5):
        a = x.T @ x
        x = 3.4445 * x + x @ (-4.7750 * a + 2.0315 * a @ a)
    numpy.testing.assert_allclose(found["w"], x, atol=1e-11)


def test_the_riemannian_direction_is_even_orthogonal_and_scale_free(tmp_path):
    g = gradients("float64")["65x7"]
    found, report = directions(tmp_path, {"a": g, "b": 1e12 * g}, "riemannian-aurora")
    numpy.testing.assert_allclose(found["a"], found["b"], atol=1e-9)
    numpy.testing.assert_allclose(found["a"].T @ found["a"], numpy.eye(7), atol=1e-12)
    plain = numpy.linalg.norm(polar(g), axis=1)
    assert report["tensors"][0]["row_norm_cv"] < 0.5 * plain.std() / plain.mean()


def test_the_report_tells_the_truth(tmp_path):
    tensors = gradients("float64")
    found, report = directions(tmp_path, tensors, "aurora")
    assert [tensor["name"] for tensor in report["tensors"]] == sorted(tensors)
    for tensor in report["tensors"]:
        g, u = tensors[tensor["name"]], found[tensor["name"]]
        norms = numpy.linalg.norm(u, axis=1)
        short = u if u.shape[0] >= u.shape[1] else u.T
        assert tensor["shape"] == list(g.shape)
        assert tensor["row_norm_cv"] == pytest.approx(norms.std() / norms.mean(), abs=1e-12)
        assert tensor["alignment"] == pytest.approx((g * u).sum(), rel=1e-12)
        error = numpy.abs(short.T @ short - numpy.eye(short.shape[1])).max()
        assert tensor["orthogonality_error"] == pytest.approx(error, abs=1e-14)


def test_a_zero_matrix_and_tiny_and_huge_ones_have_a_direction(tmp_path):
    g = gradients("float64")["24x8"]
    tensors = {"zero": 0 * g, "tiny": 1e-300 * g, "huge": 1e300 * g, "one": g}
    for optimizer in ("muon", "normuon", "u-normuon", "aurora", "riemannian-aurora"):
        found, _ = directions(tmp_path, tensors, optimizer)
        assert (found["zero"] == 0).all()
        for name in ("tiny", "huge"):
            numpy.testing.assert_allclose(found[name], found["one"], atol=1e-9, err_msg=f"{optimizer} {name}")


def test_what_is_no_matrix_is_skipped_and_named(tmp_path):
    tensors = {
        "bias": numpy.ones(4, "float32"),
        "cube": numpy.ones((2, 2, 2), "float32"),
        "half": numpy.ones((2, 2), "float16"),
        "whole": numpy.ones((2, 2), "int64"),
        "nothing": numpy.ones((0, 4), "float32"),
        "matrix": gradients("float32")["24x8"],
    }
    found, report = directions(tmp_path, tensors, "aurora")
    assert set(found) == {"matrix"}
    assert {skipped["name"] for skipped in report["skipped"]} == set(tensors) - {"matrix"}


def test_the_input_may_be_the_output(tmp_path):
    g = gradients("float64")["24x8"]
    file = tmp_path / "g.safetensors"
    save_file({"w": g}, file)
    assert aurora("direction", "--in", file, "--optimizer", "muon", "--out", file).returncode == 0
    numpy.testing.assert_allclose(load_file(file)["w"], polar(g), atol=1e-12)
    assert [path.name for path in tmp_path.iterdir()] == ["g.safetensors"]


def test_bad_input_is_one_line_and_writes_nothing(tmp_path):
    file, out = tmp_path / "g.safetensors", tmp_path / "u.safetensors"
    direction = lambda *flags: aurora("direction", "--in", file, "--out", out, *flags)
    assert_one_line(direction("--optimizer", "muon"), 1, file)
    save_file({"w": gradients("float32")["24x8"]}, file)
    assert_one_line(direction("--optimizer", "adamw"), 2, "adamw", "direction")
    assert_one_line(direction("--optimizer", "muonn"), 2, "muonn", "muon")
    assert_one_line(direction("--optimizer", "aurora", "--set", "optim.pp_betta=1"), 2, "pp_betta", "pp_beta")
    assert_one_line(direction("--optimizer", "aurora", "--set", "train.steps=1"), 2, "train.steps")
    assert_one_line(direction("--optimizer", "aurora", "--set", "optim.pp_iterations=0"), 2, "pp_iterations")
    save_file({"w": numpy.full((4, 2), numpy.nan, "float32")}, file)
    assert_one_line(direction("--optimizer", "muon"), 1, "'w'", "NaN")
    save_file({"bias": numpy.ones(4, "float32")}, file)
    assert_one_line(direction("--optimizer", "muon"), 1, file)
    save_file({"w": gradients("float32")["24x8"]}, file)
    result = aurora("direction", "--in", file, "--out", tmp_path / "none/u.safetensors", "--optimizer", "muon")
    assert_one_line(result, 1, tmp_path / "none")
    assert [path.name for path in tmp_path.iterdir()] == ["g.safetensors"]
