"""Two, three and four processes take the steps of one, to the bit, and end in words where they cannot."""

import pytest

import ranks_cases
import ranks_checkpoints
import ranks_frameworks
from worlds import require, results


@pytest.mark.parametrize("world", [2, 3, 4])
@pytest.mark.parametrize("case", [case.__name__ for case in ranks_cases.CASES])
def test_processes_are_as_one(packages, world, case):
    require("ranks_cases", world, case, packages)


@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize("case", [case.__name__ for case in ranks_frameworks.CASES])
def test_real_models_train_as_on_one_process(packages, world, case):
    require("ranks_frameworks", world, case, packages)


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    return tmp_path_factory.mktemp("checkpoints")


@pytest.mark.parametrize("world", [4, 2, 1])  # four save
@pytest.mark.parametrize("case", [case.__name__ for case in ranks_checkpoints.CASES])
def test_what_four_saved_two_and_one_load(packages, checkpoints, world, case):
    results("ranks_checkpoints", 4, packages, checkpoints)
    require("ranks_checkpoints", world, case, packages, checkpoints)
