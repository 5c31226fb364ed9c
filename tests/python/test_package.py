"""The package as a package: its wheel, its types, its import."""

import ast
import inspect
import os
import re
import shutil
import subprocess
import sys

import pytest
import torch

import aurora_optim
from aurora_optim import _core


def python(*arguments, path, variables=None, **options):
    environment = {**os.environ, "PYTHONPATH": str(path), **(variables or {})}
    return subprocess.run(
        [sys.executable, *map(str, arguments)], env=environment, capture_output=True, text=True, **options
    )


STEP = """
import torch, aurora_optim
weight = torch.nn.Parameter(torch.zeros(8, 4))
weight.grad = torch.ones(8, 4).tril()
aurora_optim.Aurora([weight]).step()
print(aurora_optim.__file__, weight.detach().norm().item())
"""


def compiler_of(build):
    return re.search(r"^CMAKE_CXX_COMPILER:\w+=(.*)$", (build / "CMakeCache.txt").read_text(), re.M).group(1)


def test_pip_installs_a_package_that_needs_nothing_of_the_build(root, packages, tmp_path):
    target = tmp_path / "site"
    same_compiler = {"CXX": compiler_of(packages.parent)}  # so that ccache knows what the build has compiled
    pip = python(
        "-m", "pip", "install", "--no-build-isolation", "--no-deps", "--no-index", "--quiet", "--target", target, root,
        path="", variables=same_compiler, timeout=1500,
    )  # fmt: skip
    assert pip.returncode == 0, pip.stdout + pip.stderr
    minor = ".".join(aurora_optim.__version__.split(".")[:2])
    files = {file.name for file in (target / "aurora_optim").iterdir() if file.is_file()}
    assert {"py.typed", "_core.pyi", f"libaurora.so.{minor}", f"libaurora_torch.so.{minor}"} <= files
    assert not [file for file in target.rglob("*") if file.name.startswith(("libaurora_trainer", "aurora.h"))]
    third_party = (target / "aurora_optim/THIRD_PARTY.md").read_text()
    notices = {file.name: file.read_text() for file in (target / "aurora_optim/licenses").iterdir()}
    assert set(notices) >= {"OpenBLAS.txt", "PyTorch.txt", "pybind11.txt"}
    assert all(f"`{name}`" in third_party and len(text) > 500 for name, text in notices.items())
    assert (target / "aurora_optim/LICENSE").read_text() == (root / "LICENSE").read_text()
    moved = tmp_path / "elsewhere"
    shutil.move(target, moved)
    result = python("-c", STEP, path=moved, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    file, norm = result.stdout.split()
    assert file.startswith(str(moved)) and float(norm) > 0
    assert {tag.version for tag in metadata(moved)} == {aurora_optim.__version__}


def metadata(folder):
    from importlib.metadata import distributions

    return [d for d in distributions(path=[str(folder)]) if d.metadata["Name"] == "aurora-optim"]


def test_the_wheel_depends_on_the_torch_that_is_installed_and_says_what_to_type_without(root, tmp_path):
    ask = "import torch_dependency as t; print(t.dynamic_metadata('dependencies'))"
    result = python("-c", ask, path=root / "python")
    assert result.stdout.strip() == f"['torch=={torch.__version__.partition('+')[0]}']", result.stderr
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    environment = {"PYTHONPATH": str(root / "python"), "PATH": os.environ["PATH"]}
    without = subprocess.run(
        [tmp_path / "venv/bin/python", "-c", ask], env=environment, capture_output=True, text=True
    )
    assert without.returncode == 1
    assert without.stderr.splitlines()[-1].strip() == "pip install torch && pip install ."


def test_another_torch_than_that_of_the_build_is_refused_at_import(packages, tmp_path):
    package = tmp_path / "aurora_optim"
    shutil.copytree(packages / "aurora_optim", package)
    built = (package / "_build.py").read_text()
    assert f'"{torch.__version__}"' in built
    (package / "_build.py").write_text(built.replace(torch.__version__, "2.0.0"))
    result = python("-c", "import aurora_optim", path=tmp_path)
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: ") and "2.0.0" in last and torch.__version__ in last and "pip install" in last


def test_type_hints_hold(root):
    pytest.importorskip("mypy", reason="requirements-test.txt")
    result = subprocess.run([sys.executable, "-m", "mypy"], cwd=root, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_the_stub_of_the_core_has_its_names_and_arguments(root):
    stub = ast.parse((root / "python/aurora_optim/_core.pyi").read_text())
    functions = {node.name: node for node in stub.body if isinstance(node, ast.FunctionDef)}
    public = {name for name, value in vars(_core).items() if not name.startswith("_") and inspect.isroutine(value)}
    assert set(functions) == public
    for name, node in functions.items():
        signature = getattr(_core, name).__doc__.splitlines()[0]
        arguments = [argument.split(":")[0].strip() for argument in split_arguments(signature)]
        assert arguments == [argument.arg for argument in node.args.args], name


def split_arguments(signature):
    """The arguments in "f(a: dict[str, int], b: int) -> int"."""
    inside, depth, parts = signature[signature.index("(") + 1 : signature.rindex(") ->")], 0, [""]
    for character in inside:
        depth += (character in "[(") - (character in "])")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part for part in parts if part.strip()]


def test_everything_public_is_documented():
    for name in aurora_optim.__all__:
        assert inspect.getdoc(getattr(aurora_optim, name)), name
