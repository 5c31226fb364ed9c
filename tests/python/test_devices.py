"""Tensors of devices without values; the algorithms of devices are tested in tests/torch_device_test.cpp."""

import pytest
import torch
from aurora_optim import Muon, leverage_scores, polar
from torch import nn


def test_functions_refuse_tensors_without_values():
    for function in (polar, leverage_scores):
        with pytest.raises(ValueError, match="meta"):
            function(torch.empty(4, 3, device="meta"))


def test_parameters_on_meta_are_refused():
    with pytest.raises(ValueError, match=r"meta.*\[4, 3\]"):
        Muon([nn.Parameter(torch.empty(4, 3, device="meta"))])
