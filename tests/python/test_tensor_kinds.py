"""Whatever kind of tensor torch has: a step takes it, or says by an exception why not. None ends the process."""

import warnings

import pytest
import torch
from torch import nn

from aurora_optim import AdamW, Aurora, diagnose, leverage_scores, polar

SHAPE = (6, 4)


def plain(dtype=torch.float32):
    return torch.randn(SHAPE).to(dtype)


@pytest.fixture(scope="module")
def mesh():
    """One process that believes to be a cluster, for DTensors."""
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


def dtensor(mesh):
    from torch.distributed.tensor import Shard, distribute_tensor

    return distribute_tensor(plain(), mesh, [Shard(0)])


def fake(_):
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        return torch.randn(SHAPE)


def two(_):
    from torch.testing._internal.two_tensor import TwoTensor

    return TwoTensor(plain(), plain())


def freed(_):
    x = plain()
    x.untyped_storage().resize_(0)
    return x


def shrunk(_):
    x = plain()
    x.untyped_storage().resize_(8)
    return x


def masked(_):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.masked.masked_tensor(plain(), torch.ones(SHAPE, dtype=torch.bool))


def subclass(_):
    class Labelled(torch.Tensor):
        pass

    return plain().as_subclass(Labelled)


def inference(_):
    with torch.inference_mode():
        return plain()


def jagged(_):
    return torch.nested.nested_tensor([torch.randn(2, 4), torch.randn(4, 4)], layout=torch.jagged)


def quantized(_):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(plain(), 0.1, 0, torch.qint8)


def csr(_):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return plain().to_sparse_csr()


def nested(_):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.nested.nested_tensor([torch.randn(2, 4), torch.randn(4, 4)])


REFUSED = {
    "DTensor": dtensor,
    "fake": fake,
    "two-tensor": two,
    "masked": masked,
    "meta": lambda _: torch.randn(SHAPE, device="meta"),
    "sparse": lambda _: plain().to_sparse(),
    "sparse rows": csr,
    "mkldnn": lambda _: plain().to_mkldnn(),
    "nested": nested,
    "jagged": jagged,
    "quantized": quantized,
    "complex": lambda _: plain(torch.complex64),
    "conjugate": lambda _: plain(torch.complex64).conj(),
    "integers": lambda _: plain(torch.int64),
    "bools": lambda _: plain(torch.bool),
    "float8": lambda _: plain(torch.float8_e4m3fn),
    "freed": freed,
    "shrunk": shrunk,
    "no memory": lambda _: torch._efficientzerotensor(SHAPE),
}
# Good to read, not to write.
ONLY_READ = {
    "expanded": lambda _: torch.randn(1, 4).expand(SHAPE),
    "overlapping": lambda _: torch.randn(64).as_strided(SHAPE, (2, 1)),
    "negative": lambda _: torch._neg_view(plain()),
    "inference": inference,
}
TAKEN = {
    "float16": lambda _: plain(torch.float16),
    "bfloat16": lambda _: plain(torch.bfloat16),
    "float64": lambda _: plain(torch.float64),
    "strided": lambda _: torch.randn(12, 8)[::2, ::2],
    "transposed": lambda _: torch.randn(4, 6).t(),
    "subclass without dispatch": subclass,
}


def outcome(optimizer):
    """The message of what a step raises, or None."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            optimizer.step()
        except (ValueError, TypeError, RuntimeError, NotImplementedError) as error:
            return str(error)
    return None


def optimizer_with_gradient(cls):
    weight = nn.Parameter(plain())
    optimizer = cls([{"params": [("layer", weight)]}])
    weight.grad = plain()
    return optimizer, weight


@pytest.mark.parametrize("cls", [AdamW, Aurora])
@pytest.mark.parametrize("kind", [kind for kind in (*REFUSED, *ONLY_READ) if kind != "DTensor"])
def test_a_parameter_swapped_for_another_kind_is_refused_by_name(cls, kind, mesh):
    make = (REFUSED | ONLY_READ)[kind]
    optimizer, _ = optimizer_with_gradient(cls)
    swapped = make(mesh)
    if swapped.dtype.is_floating_point or swapped.dtype.is_complex:
        swapped = nn.Parameter(swapped, requires_grad=not swapped.is_inference())
        try:
            swapped.grad = make(mesh).detach() if kind not in ONLY_READ else plain()
        except RuntimeError:  # torch refuses some gradients itself
            pass
    optimizer.param_groups[0]["params"][0] = swapped
    message = outcome(optimizer)
    assert message is not None and message.startswith("[aurora") and "'layer'" in message, message


@pytest.mark.parametrize("cls", [AdamW, Aurora])
@pytest.mark.parametrize("kind", [kind for kind in (*REFUSED, *ONLY_READ) if kind != "DTensor"])
def test_an_optimizer_is_not_made_of_them(cls, kind, mesh):
    made = (REFUSED | ONLY_READ)[kind](mesh)
    with pytest.raises((ValueError, TypeError, RuntimeError, NotImplementedError)):
        cls([nn.Parameter(made, requires_grad=made.dtype.is_floating_point and not made.is_inference())])


@pytest.mark.parametrize("cls", [AdamW, Aurora])
@pytest.mark.parametrize("kind", [*REFUSED, *ONLY_READ, *TAKEN])
def test_a_gradient_of_any_kind_is_taken_or_refused(cls, kind, mesh):
    optimizer, weight = optimizer_with_gradient(cls)
    before = weight.detach().clone()
    gradient = (REFUSED | ONLY_READ | TAKEN)[kind](mesh)
    try:
        weight.grad_dtype = None
        weight.grad = gradient
    except (RuntimeError, TypeError):
        pytest.skip("torch does not assign it")
    message = outcome(optimizer)
    if kind in REFUSED:
        assert message is not None and "'layer'" in message, message
        assert torch.equal(before, weight)
    else:
        assert message is None and not torch.equal(before, weight), message


@pytest.mark.parametrize("cls", [AdamW, Aurora])
@pytest.mark.parametrize("kind", [*REFUSED, *ONLY_READ])
def test_a_state_of_another_kind_is_refused(cls, kind, mesh):
    optimizer, weight = optimizer_with_gradient(cls)
    optimizer.step()
    before = weight.detach().clone()
    key = "momentum_buffer" if cls is Aurora else "exp_avg"
    optimizer.state[weight][key] = (REFUSED | ONLY_READ)[kind](mesh)
    message = outcome(optimizer)
    assert message is not None and message.startswith("[aurora"), message
    assert torch.equal(before, weight)


@pytest.mark.parametrize("cls", [AdamW, Aurora])
@pytest.mark.parametrize("kind", TAKEN)
def test_what_torch_takes_is_stepped_as_a_plain_copy_is(cls, kind, mesh):
    value = TAKEN[kind](mesh).detach()
    odd = nn.Parameter(value)
    even = nn.Parameter(value.as_subclass(torch.Tensor).to(torch.float64).contiguous())
    for p in (odd, even):
        optimizer = cls([p], lr=0.1)
        for step in range(2):
            gradient = torch.randn(SHAPE, generator=torch.Generator().manual_seed(step))
            p.grad = gradient.to(p.dtype)
            optimizer.step()
    # Two steps, each rounds the weight once; gradients are rounded to the same type.
    unit = torch.finfo(odd.dtype).eps
    bound = 0.02 if odd.dtype in (torch.float16, torch.bfloat16) else 1e-4
    assert (odd.double() - even).abs().max() < max(8 * unit * value.abs().max().item(), bound * 0.1 if unit < 1e-6 else bound)


@pytest.mark.parametrize("cls", [AdamW, Aurora])
def test_a_weight_of_no_rows_is_passed_over(cls):
    empty, weight = nn.Parameter(torch.randn(0, 4)), nn.Parameter(plain())
    optimizer = cls([empty, weight])
    empty.grad, weight.grad = torch.randn(0, 4), plain()
    before = weight.detach().clone()
    optimizer.step()
    assert not torch.equal(before, weight)


@pytest.mark.parametrize("cls", [AdamW, Aurora])
def test_a_gradient_of_another_shape_is_refused(cls):
    optimizer, weight = optimizer_with_gradient(cls)
    weight.data = torch.randn(8, 4)  # after the gradient was made
    assert "'layer'" in (outcome(optimizer) or "")


def test_a_parameter_without_a_shape_is_refused_with_what_to_do():
    with pytest.raises(ValueError, match="run the model once"):
        Aurora(nn.Sequential(nn.Linear(4, 8), nn.LazyLinear(8), nn.Linear(8, 4)))


@pytest.mark.parametrize("function", [polar, leverage_scores])
@pytest.mark.parametrize("kind", REFUSED)
def test_functions_refuse_them_too(function, kind, mesh):
    with pytest.raises((ValueError, TypeError, RuntimeError, NotImplementedError)):
        function(REFUSED[kind](mesh))


def test_functions_refuse_transforms_and_arrays_with_a_sentence():
    import numpy

    with pytest.raises(TypeError, match=r"torch.from_numpy"):
        polar(numpy.ones(SHAPE))
    with pytest.raises(TypeError, match="torch.func"):
        torch.func.vmap(polar)(torch.randn(2, *SHAPE))
    with pytest.raises(TypeError, match="torch.func"):
        torch.func.grad(lambda x: polar(x).sum())(plain())
    with pytest.raises(TypeError, match="list"):
        diagnose([1])
