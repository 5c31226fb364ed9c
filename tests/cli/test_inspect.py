"""`aurora inspect` against NumPy, on files of the safetensors package."""

import json
import struct

import numpy
import pytest
import torch
from conftest import assert_one_line, aurora, last_checkpoint
from safetensors.torch import load_file, save_file

QUANTILES = [0, 0.01, 0.1, 0.5, 0.9, 0.99, 1]
THRESHOLDS = [0.01, 0.1, 0.5]
DTYPES = {"F32": torch.float32, "F64": torch.float64, "F16": torch.float16, "BF16": torch.bfloat16}


def inspect(path, *flags):
    result = aurora("inspect", path, "--json", *flags)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def by_name(path, *flags):
    return {matrix["name"]: matrix for matrix in inspect(path, *flags)["matrices"]}


def cv(x, axis):
    norms = numpy.linalg.norm(x, axis=axis)
    return norms.std() / norms.mean()


def expected(tensor, axis):
    """The statistics by a singular value decomposition."""
    x = tensor.to(torch.float64).numpy()
    u, s, v = numpy.linalg.svd(x, full_matrices=False)
    kept = s > 2.0**-21 * s[0]
    polar = (u * kept) @ v
    leverage = (polar**2).sum(axis=1 if axis == "rows" else 0)
    leverage /= min(x.shape) / leverage.size
    shares = s**2 / (s**2).sum()
    shares = shares[shares > 0]
    return {
        "starved": {str(t): (leverage < t).mean() for t in THRESHOLDS},
        "leverage": numpy.quantile(leverage, QUANTILES),
        "row_norm_cv": cv(x, 1),
        "column_norm_cv": cv(x, 0),
        "effective_rank": numpy.exp(-(shares * numpy.log(shares)).sum()),
        "numerical_rank": kept.sum(),
        "sigma_max": s[0],
        "sigma_min": s[-1] if kept[-1] else 0,
    }


def assert_statistics(actual, tensor, axis):
    for key, value in expected(tensor, axis).items():
        if key == "starved":
            assert actual[key] == pytest.approx(value, abs=1e-15)
        else:
            assert actual[key] == pytest.approx(value, rel=1e-7, abs=1e-8), key
    assert actual["non_finite"] == 0


def uneven(*shape, seed, dtype=torch.float32, axis=0):
    """Gaussian, with the lengths along one axis spread over some orders of magnitude."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(*shape, generator=generator, dtype=torch.float64)
    scales = torch.exp(1.5 * torch.randn(shape[axis], generator=generator, dtype=torch.float64))
    return (x * (scales[:, None] if axis == 0 else scales[None, :])).to(dtype)


LLAMA = {  # name after model.layers.0: shape, role, neuron axis
    "self_attn.q_proj": ((32, 32), "query", "rows"),
    "self_attn.k_proj": ((16, 32), "key", "rows"),
    "self_attn.o_proj": ((32, 32), "attention_output", "columns"),
    "mlp.gate_proj": ((96, 32), "gate", "rows"),
    "mlp.up_proj": ((96, 32), "up", "rows"),
    "mlp.down_proj": ((32, 96), "down", "columns"),
}


def llama_tensors(dtype=torch.float32):
    tensors = {
        f"model.layers.0.{name}.weight": uneven(
            *shape, seed=seed, dtype=dtype, axis=1 if axis == "columns" else 0
        )
        for seed, (name, (shape, _, axis)) in enumerate(LLAMA.items())
    }
    tensors["model.embed_tokens.weight"] = uneven(300, 32, seed=20, dtype=dtype)
    tensors["model.norm.weight"] = torch.ones(32, dtype=dtype)
    return tensors


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_llama_in_every_type_is_measured_as_by_numpy(tmp_path, dtype):
    tensors = llama_tensors(DTYPES[dtype])
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    report = inspect(tmp_path / "model.safetensors")
    matrices = {matrix["name"]: matrix for matrix in report["matrices"]}
    assert matrices.keys() == tensors.keys() - {"model.norm.weight"}
    assert report["skipped"] == {"fewer than 2 dimensions": 1}
    for name, (shape, role, axis) in LLAMA.items():
        matrix = matrices[f"model.layers.0.{name}.weight"]
        assert (tuple(matrix["shape"]), matrix["role"], matrix["neuron_axis"]) == (shape, role, axis)
        assert not matrix["guessed"] and matrix["momentum"] is None and matrix["dtype"] == dtype
        assert matrix["aspect_ratio"] == shape[0] / shape[1]
        assert_statistics(matrix, tensors[matrix["name"]], axis)
    assert matrices["model.embed_tokens.weight"]["role"] == "embedding"
    assert_statistics(matrices["model.embed_tokens.weight"], tensors["model.embed_tokens.weight"], "rows")


@pytest.mark.parametrize("conv1d", [True, False])
def test_gpt2_weights_have_their_neurons_on_the_right_axis(tmp_path, conv1d):
    layers = {  # [out, in], role, neuron axis of that
        "attn.c_attn": ((96, 32), "query_key_value", "rows"),
        "attn.c_proj": ((32, 32), "attention_output", "columns"),
        "mlp.c_fc": ((128, 32), "up", "rows"),
        "mlp.c_proj": ((32, 128), "down", "columns"),
    }
    tensors = {}
    for seed, (name, (shape, _, axis)) in enumerate(layers.items()):
        # Seeds with condition numbers that a Gram matrix in float64 resolves to the tests' precision.
        weight = uneven(*shape, seed=seed + 5, axis=1 if axis == "columns" else 0)
        tensors[f"h.0.{name}.weight"] = weight.T.contiguous() if conv1d else weight
    tensors["h.0.attn.bias"] = torch.ones(1, 1, 16, 16)  # the causal mask of old files
    tensors["wpe.weight"] = uneven(64, 32, seed=9)
    save_file(tensors, tmp_path / "gpt2.safetensors")
    report = inspect(tmp_path)
    assert report["skipped"] == {"4 dimensions": 1}
    matrices = {matrix["name"]: matrix for matrix in report["matrices"]}
    turned = {"rows": "columns", "columns": "rows"}
    fused = tensors["h.0.attn.c_attn.weight"]
    for i, part in enumerate((fused.T if conv1d else fused).chunk(3)):  # query, key and value, each as [out, in]
        matrix = matrices[f"h.0.attn.c_attn.weight[{i}]"]
        assert (matrix["shape"], matrix["role"], matrix["neuron_axis"]) == ([32, 32], "query_key_value", "rows")
        assert matrix["guessed"], "no config.json says that this is GPT-2"
        assert_statistics(matrix, part.contiguous(), "rows")
    for name, (_, role, axis) in layers.items():
        if name == "attn.c_attn":
            continue
        matrix = matrices[f"h.0.{name}.weight"]
        stored_axis = turned[axis] if conv1d else axis
        assert (matrix["role"], matrix["neuron_axis"]) == (role, stored_axis)
        assert_statistics(matrix, tensors[matrix["name"]], stored_axis)
    assert matrices["wpe.weight"]["role"] == "position_embedding"


def test_transformers_gpt2_is_read_as_conv1d(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=50, n_positions=8)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path)
    matrices = by_name(tmp_path)
    up = matrices["transformer.h.0.mlp.c_fc.weight"]
    assert (up["shape"], up["role"], up["neuron_axis"]) == ([16, 64], "up", "columns")
    assert all(not matrix["guessed"] for matrix in matrices.values())


def test_stacked_experts_and_fused_weights_are_measured_matrix_by_matrix(tmp_path):
    transformers = pytest.importorskip("transformers")
    size = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8}
    config = transformers.GptOssConfig(vocab_size=50, num_hidden_layers=1, num_local_experts=2, **size)
    weights = torch.stack([uneven(16, 48, seed=seed) for seed in (3, 4)])
    save_file({"model.layers.0.mlp.experts.gate_up_proj": weights}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(config.to_json_string())
    matrices = by_name(tmp_path)
    assert len(matrices) == 4
    for expert in range(2):
        for part in range(2):  # gate and up, interleaved, stored [in, out]
            matrix = matrices[f"model.layers.0.mlp.experts.gate_up_proj[{2 * expert + part}]"]
            assert (matrix["shape"], matrix["role"], matrix["guessed"]) == ([24, 16], "gate_up", False)
            assert_statistics(matrix, weights[expert][:, part::2].T.contiguous(), "rows")


def test_shards_are_one_model(tmp_path):
    tensors = llama_tensors()
    weight_map = {name: f"model-0000{i % 2 + 1}-of-00002.safetensors" for i, name in enumerate(sorted(tensors))}
    for shard in set(weight_map.values()):
        save_file({name: tensors[name] for name in tensors if weight_map[name] == shard}, tmp_path / shard)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    save_file(tensors, tmp_path / "whole.bin")
    whole = inspect(tmp_path / "whole.bin")
    for path in (index, tmp_path):
        assert {**inspect(path), "path": ""} == {**whole, "path": ""}


def test_a_run_shows_the_momentum_of_its_newest_checkpoint(run):
    folder = last_checkpoint(run)
    weights, state = load_file(folder / "model.safetensors"), load_file(folder / "optimizer.safetensors")
    matrices = by_name(run)
    assert {**inspect(folder), "path": ""} == {**inspect(run), "path": ""}
    assert matrices.keys() == {name for name, tensor in weights.items() if tensor.dim() == 2}
    for name, matrix in matrices.items():
        kind = matrix["momentum"]["tensor"]
        assert kind == ("exp_avg" if "embed_tokens" in name or "lm_head" in name else "momentum_buffer")
        assert_statistics(matrix, weights[name], matrix["neuron_axis"])
        momentum, reference = matrix["momentum"], expected(state[f"{name}.{kind}"], matrix["neuron_axis"])
        # Momenta of a small run are nearly of low rank: what lies at the cut may fall on either side.
        for key in ("row_norm_cv", "column_norm_cv", "effective_rank", "sigma_max"):
            assert momentum[key] == pytest.approx(reference[key], rel=1e-6), (name, key)
        if "mlp" in name:
            assert momentum["leverage"] == pytest.approx(reference["leverage"], rel=1e-5, abs=1e-7)


def test_momentum_buffers_are_found_beside_their_weights_and_by_flag(tmp_path):
    weight, momentum = uneven(48, 16, seed=1), uneven(48, 16, seed=2, dtype=torch.bfloat16)
    save_file({"up_proj.weight": weight}, tmp_path / "w.safetensors")
    save_file({"up_proj.weight.momentum_buffer": momentum, "x.exp_avg_sq": weight}, tmp_path / "m.safetensors")
    save_file(
        {"up_proj.weight": weight, "up_proj.weight.momentum_buffer": momentum}, tmp_path / "both.safetensors"
    )
    for arguments in (["both.safetensors"], ["w.safetensors", "--momentum", tmp_path / "m.safetensors"]):
        matrices = by_name(tmp_path / arguments[0], *arguments[1:])
        assert matrices.keys() == {"up_proj.weight"}
        assert_statistics(matrices["up_proj.weight"], weight, "rows")
        assert_statistics(matrices["up_proj.weight"]["momentum"], momentum, "rows")
    alone = inspect(tmp_path / "m.safetensors")
    assert [matrix["name"] for matrix in alone["matrices"]] == ["up_proj.weight.momentum_buffer"]
    assert alone["matrices"][0]["role"] == "up"
    assert alone["skipped"] == {"other optimizer state": 1}


def test_the_number_of_threads_does_not_matter(tmp_path):
    tensors = {f"layers.{i}.up_proj.weight": uneven(90, 30, seed=i) for i in range(9)}
    save_file(tensors, tmp_path / "m.safetensors")
    one, three = by_name(tmp_path, "--threads", 1), by_name(tmp_path, "--threads", 3)
    assert one.keys() == three.keys() == tensors.keys()
    for name in tensors:
        assert one[name]["leverage"] == pytest.approx(three[name]["leverage"], rel=1e-12)


def test_the_worst_layers_come_first_and_are_marked(tmp_path):
    generator = torch.Generator().manual_seed(0)
    tensors = {f"layers.{i}.up_proj.weight": torch.randn(64, 16, generator=generator) for i in range(3)}
    tensors["layers.1.up_proj.weight"][:16] = 0
    tensors["thing"] = torch.randn(16, 16, generator=generator)
    tensors["embed_tokens.weight"] = torch.zeros(64, 16)
    tensors["conv"] = torch.ones(2, 2, 2)
    save_file(tensors, tmp_path / "m.safetensors")
    report = inspect(tmp_path)
    assert report["matrices"][0]["name"] == "layers.1.up_proj.weight"
    assert report["matrices"][0]["starved"] == {"0.01": 0.25, "0.1": 0.25, "0.5": pytest.approx(0.25, abs=0.1)}
    assert report["matrices"][-1]["name"] == "embed_tokens.weight"
    assert [matrix["suspicious"] for matrix in report["matrices"]] == [True, False, False, False, False]
    table = aurora("inspect", tmp_path)
    assert table.returncode == 0 and table.stderr == ""
    lines = table.stdout.splitlines()
    assert lines[1].split()[:3] == ["!", "layers.1.up_proj.weight", "25.0"]
    assert [line for line in lines if line.startswith("! ")] == [lines[1]]
    assert any(line.split()[0] == "thing" and "square (guessed)" in line for line in lines[1:])
    assert "1 of 5 matrices marked" in table.stdout
    assert "skipped 1 tensor: 3 dimensions" in table.stdout


def test_an_inf_or_nan_is_counted_and_gives_null(tmp_path):
    x = torch.ones(4, 3)
    x[1, 1], x[2, 0] = float("inf"), float("nan")
    save_file({"a": x, "b": torch.eye(3)}, tmp_path / "m.safetensors")
    worst, other = inspect(tmp_path)["matrices"]
    assert (worst["name"], worst["non_finite"], worst["suspicious"]) == ("a", 2, True)
    for key in ("row_norm_cv", "column_norm_cv", "effective_rank", "numerical_rank", "sigma_max", "sigma_min"):
        assert worst[key] is None
    assert worst["leverage"] == [None] * 7 and set(worst["starved"].values()) == {None}
    assert other["leverage"] == pytest.approx([1] * 7) and other["numerical_rank"] == 3
    assert "2 Inf or NaN" in aurora("inspect", tmp_path).stdout


def with_header(header, data=b""):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(header)) + header + data


def entry(shape, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [0, end]}


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "0 bytes"),
        (b"# not tensors at all\n", "no safetensors file"),
        (b"PK\x03\x04" + bytes(100), "header"),
        (struct.pack("<Q", 2**63) + b"{}", "header"),
        (with_header({"a": entry([2, 2], 16)}, bytes(15)), "16"),
        (with_header({"a": entry([2**40, 2**40], 16)}, bytes(16)), "too large"),
        (with_header({"a": entry([2, 2], 16, "F33")}, bytes(16)), "F33"),
        (with_header({"a": entry([4], 16)}, bytes(16)), "no weight matrix"),
        (with_header({"a": entry([2, 2], 16, "I32")}, bytes(16)), "no weight matrix"),
        (with_header({"a": entry([0, 2], 0)}), "no weight matrix"),
        (with_header({}), "no weight matrix"),
        (with_header(b"[" * 1000), "header"),
    ],
)
def test_a_file_that_is_none_gives_one_line(tmp_path, content, part):
    file = tmp_path / "bad.safetensors"
    file.write_bytes(content)
    assert_one_line(aurora("inspect", file), 1, file, part)
    assert_one_line(aurora("inspect", file, "--json"), 1, file, part)


def test_a_momentum_of_another_shape_gives_one_line(tmp_path):
    save_file({"a": torch.ones(4, 2), "a.momentum_buffer": torch.ones(2, 4)}, tmp_path / "m.safetensors")
    assert_one_line(aurora("inspect", tmp_path), 1, tmp_path, "a.momentum_buffer is 2x4", "4x2")


def test_a_matrix_too_large_for_lapack_is_skipped(tmp_path):
    side = 40000
    header = json.dumps(
        {
            "big": {"dtype": "F32", "shape": [side, side], "data_offsets": [0, 4 * side * side]},
            "small": {"dtype": "F32", "shape": [2, 2], "data_offsets": [4 * side * side, 4 * side * side + 16]},
        }
    ).encode()
    with open(tmp_path / "m.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + 4 * side * side + 16)  # sparse: takes no space
    report = inspect(tmp_path)
    assert [matrix["name"] for matrix in report["matrices"]] == ["small"]
    assert report["skipped"] == {"both sides above 32766": 1}


@pytest.mark.parametrize(
    ("arguments", "code", "parts"),
    [
        ([], 2, ["path"]),
        (["no/such/file"], 1, ["no/such/file", "No such file"]),
        (["/dev/null"], 1, ["/dev/null", "not a regular file"]),
        (["{folder}"], 1, ["no *.safetensors file"]),
        (["{folder}", "--threads", "-1"], 2, ["--threads", "-1"]),
        (["{folder}", "--jsn"], 2, ["--jsn", "--json"]),
        (["{folder}", "more"], 2, ["more"]),
    ],
)
def test_wrong_usage_gives_one_line(tmp_path, arguments, code, parts):
    assert_one_line(aurora("inspect", *(a.format(folder=tmp_path) for a in arguments)), code, *parts)


def test_names_are_shown_without_control_characters(tmp_path):
    save_file({"evil\n\x1b[31m name": torch.ones(3, 2), "w" * 500: torch.ones(3, 2)}, tmp_path / "m.safetensors")
    table = aurora("inspect", tmp_path).stdout
    assert "evil\\x0a\\x1b[31m name" in table and "\x1b" not in table
    assert max(len(line) for line in table.splitlines()) < 300
