"""Saved states: ours, and the exchange with torch.optim."""

import copy
import io

import pytest
import torch
from torch import nn

from aurora_optim import AdamW, Aurora, Muon, NorMuon
from small_models import CLASSES, assert_same_bits, assert_same_states, decoder, run, set_gradients, weights


def through_a_file(state_dict):
    buffer = io.BytesIO()
    torch.save(state_dict, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("cls", CLASSES)
def test_a_resumed_run_is_the_run_that_never_stopped(cls, dtype):
    whole, cut = decoder(dtype=dtype), decoder(dtype=dtype)
    options = {"balance": "carried"} if cls is Aurora else {}
    optimizer = cls(whole, lr=0.03, **options)
    run(whole, optimizer, 6)
    first = cls(cut, lr=0.03, **options)
    run(cut, first, 3)
    resumed_model = decoder(seed=9, dtype=dtype)
    resumed_model.load_state_dict(through_a_file(cut.state_dict()))
    resumed = cls(resumed_model)  # with other hyperparameters: the saved ones are taken
    resumed.load_state_dict(through_a_file(first.state_dict()))
    assert_same_states(first, resumed)
    run(resumed_model, resumed, 3, start=3)
    assert_same_bits(weights(whole), weights(resumed_model))
    assert_same_states(optimizer, resumed)
    assert resumed.param_groups[0]["lr"] == 0.03


def test_states_have_the_names_of_torch_and_the_precision_of_the_arithmetic():
    expected = {
        AdamW: {"step", "exp_avg", "exp_avg_sq"},
        Muon: {"momentum_buffer"},
        NorMuon: {"momentum_buffer", "second_momentum_buffer"},
    }
    for cls, names in expected.items():
        weight = nn.Parameter(torch.randn(6, 4).bfloat16())
        optimizer = cls([weight])
        run(nn.ParameterList([weight]), optimizer, 1)
        assert set(optimizer.state[weight]) == names
        assert {value.dtype for value in optimizer.state[weight].values()} == {torch.float32}
    weight = nn.Parameter(torch.randn(6, 4))
    optimizer = Aurora([weight], balance="carried")
    run(nn.ParameterList([weight]), optimizer, 1)
    assert set(optimizer.state[weight]) == {"momentum_buffer", "row_scales"}
    assert optimizer.state[weight]["row_scales"].shape == (6, 1)


def test_loading_does_not_round_the_state_of_bfloat16_weights():
    weight = nn.Parameter(torch.randn(6, 4).bfloat16())
    optimizer = Aurora([weight])
    weight.grad = torch.randn(6, 4).bfloat16()
    optimizer.step()
    optimizer.step()
    exact = optimizer.state[weight]["momentum_buffer"].clone()
    assert not torch.equal(exact, exact.bfloat16().float())
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert_same_bits([optimizer.state[weight]["momentum_buffer"]], [exact])


def test_a_loaded_state_is_a_copy():
    model = decoder()
    optimizer = Aurora(model)
    run(model, optimizer, 1)
    saved = optimizer.state_dict()
    kept = copy.deepcopy(saved)
    other_model = decoder()
    other = Aurora(other_model)
    other.load_state_dict(saved)
    run(other_model, other, 2)
    for key, state in kept["state"].items():
        assert_same_bits(list(saved["state"][key].values()), list(state.values()))


def test_a_state_before_the_first_step_loads():
    optimizer = Aurora(decoder(), lr=0.5)
    fresh = Aurora(decoder())
    fresh.load_state_dict(optimizer.state_dict())
    assert fresh.param_groups[0]["lr"] == 0.5 and len(fresh.state) == 0


def test_load_hooks_see_the_state_dict_and_the_loaded_optimizer():
    model = decoder()
    optimizer = Aurora(model)
    run(model, optimizer, 1)
    saved = optimizer.state_dict()
    seen = []

    def halve(_, state_dict):
        groups = [{**group, "lr": group["lr"] / 2} for group in state_dict["param_groups"]]
        return {**state_dict, "param_groups": groups}

    optimizer.register_load_state_dict_pre_hook(halve)
    optimizer.register_load_state_dict_post_hook(lambda o: seen.append(o.state[model.up.weight]["momentum_buffer"].dtype))
    optimizer.load_state_dict(saved)
    assert optimizer.param_groups[0]["lr"] == 0.01 and seen == [torch.float32]


# torch.optim.Muon


def matrices(dtype=torch.float32):
    torch.manual_seed(3)
    return [nn.Parameter(torch.randn(shape).to(dtype)) for shape in [(24, 8), (8, 24), (8, 8)]]


def steps(parameters, optimizer, count, start=0):
    for step in range(start, start + count):
        set_gradients(parameters, step)
        optimizer.step()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("cls", [Muon, Aurora])
def test_a_checkpoint_of_torchs_muon_goes_on_with_its_settings_and_our_polar(cls, dtype):
    theirs, ours, expected = matrices(dtype), matrices(dtype), matrices(dtype)
    torchs = torch.optim.Muon(theirs, lr=0.125, weight_decay=0.5, momentum=0.75, nesterov=False)
    steps(theirs, torchs, 2)
    for mine, also, their in zip(ours, expected, theirs):
        mine.data.copy_(their.data)
        also.data.copy_(their.data)
    optimizer = cls(ours, polar="polar-express-6")
    optimizer.load_state_dict(through_a_file(torchs.state_dict()))
    group = optimizer.param_groups[0]
    taken = {key: group[key] for key in ("lr", "weight_decay", "momentum", "nesterov", "polar", "scale")}
    assert taken == {
        "lr": 0.125, "weight_decay": 0.5, "momentum": 0.75, "nesterov": False,
        "polar": "polar-express-6", "scale": "aspect_ratio",
    }  # fmt: skip
    assert "ns_steps" not in group
    reference = cls(expected, lr=0.125, weight_decay=0.5, momentum=0.75, nesterov=False, polar="polar-express-6")
    for p, their in zip(expected, theirs):
        reference.state[p]["momentum_buffer"] = torchs.state[their]["momentum_buffer"].float()
    steps(ours, optimizer, 2, start=2)
    steps(expected, reference, 2, start=2)
    assert_same_bits([p.detach() for p in ours], [p.detach() for p in expected])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale, adjust", [("aspect_ratio", "original"), ("match_rms_adamw", "match_rms_adamw")])
@pytest.mark.parametrize("cls", [Muon, Aurora])
def test_our_checkpoint_goes_on_in_torchs_muon(cls, scale, adjust, dtype):
    ours, theirs, expected = matrices(dtype), matrices(dtype), matrices(dtype)
    optimizer = cls(ours, lr=0.125, weight_decay=0.5, momentum=0.75, scale=scale)
    steps(ours, optimizer, 2)
    for p in (*zip(theirs, ours), *zip(expected, ours)):
        p[0].data.copy_(p[1].data)
    torchs = torch.optim.Muon(theirs)
    torchs.load_state_dict(through_a_file(optimizer.state_dict()))
    reference = torch.optim.Muon(expected, lr=0.125, weight_decay=0.5, momentum=0.75, adjust_lr_fn=adjust)
    for p, our in zip(expected, ours):
        reference.state[p]["momentum_buffer"] = optimizer.state[our]["momentum_buffer"].to(dtype)
    steps(theirs, torchs, 2, start=2)
    steps(expected, reference, 2, start=2)
    assert_same_bits([p.detach() for p in theirs], [p.detach() for p in expected])


def test_our_muon_with_torchs_schedule_steps_nearly_as_torchs():
    ours, theirs = matrices(), matrices()
    steps(ours, Muon(ours, lr=0.1, weight_decay=0.1, polar="keller-jordan-5"), 3)
    steps(theirs, torch.optim.Muon(theirs, lr=0.1, weight_decay=0.1), 3)
    for a, b, start in zip(ours, theirs, matrices()):
        assert (a - b).norm() < 0.05 * (b - start).norm()  # theirs is bfloat16 inside


def test_the_update_scale_of_torchs_checkpoint_is_taken():
    parameters = matrices()
    torchs = torch.optim.Muon(parameters, adjust_lr_fn="match_rms_adamw")
    optimizer = Aurora(matrices())
    optimizer.load_state_dict(torchs.state_dict())
    assert optimizer.param_groups[0]["scale"] == "match_rms_adamw"


# torch.optim.AdamW


def test_checkpoints_of_adamw_go_both_ways():
    ours, theirs = matrices(torch.float64), matrices(torch.float64)
    options = {"lr": 0.1, "betas": (0.7, 0.8), "eps": 1e-6, "weight_decay": 0.1}
    first, second = AdamW(ours, **options), torch.optim.AdamW(theirs, **options)
    steps(ours, first, 2)
    steps(theirs, second, 2)
    crossed_ours, crossed_theirs = AdamW(theirs), torch.optim.AdamW(ours)
    crossed_ours.load_state_dict(through_a_file(second.state_dict()))
    crossed_theirs.load_state_dict(through_a_file(first.state_dict()))
    steps(theirs, crossed_ours, 2, start=2)
    steps(ours, crossed_theirs, 2, start=2)
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


# What must not load


def stepped(cls=Aurora, **options):
    weight = nn.Parameter(torch.randn(6, 4))
    optimizer = cls([weight], **options)
    weight.grad = torch.randn(6, 4)
    optimizer.step()
    return optimizer


def changed(state_dict, change):
    state_dict = copy.deepcopy(state_dict)
    change(state_dict["state"][0], state_dict["param_groups"][0], state_dict)
    return state_dict


WRONG = {
    "another shape": (lambda s, g, d: s.update(momentum_buffer=torch.zeros(4, 6)), ["momentum_buffer", "[4, 6]", "[6, 4]"]),
    "a missing state": (lambda s, g, d: (s.pop("momentum_buffer"), s.update(x=1)), ["lacks momentum_buffer", "[6, 4]"]),
    "an unknown state": (lambda s, g, d: s.update(exp_avg=torch.zeros(6, 4)), ["unknown exp_avg", "momentum_buffer"]),
    "an integer state": (lambda s, g, d: s.update(momentum_buffer=torch.zeros(6, 4).int()), ["momentum_buffer", "floats"]),
    "no tensor": (lambda s, g, d: s.update(momentum_buffer="zeros"), ["momentum_buffer", "'zeros'"]),
    "a state of nobody": (lambda s, g, d: d["state"].update({7: {}}), ["7", "in no group"]),
    "another rule": (lambda s, g, d: g.update(rule="muon"), ["group 0", "muon vs aurora"]),
    "a wrong number": (lambda s, g, d: g.update(lr=-1.0), ["lr", "-1"]),
    "other blocks": (lambda s, g, d: g.update(blocks=2), ["blocks", "group 0", "2 vs None"]),
    "maximize": (lambda s, g, d: g.update(maximize=True), ["maximize"]),
    "more groups": (lambda s, g, d: d["param_groups"].append({"params": []}), ["number of parameter groups"]),
    "more parameters": (lambda s, g, d: g.update(params=[0, 1]), ["match the size"]),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_state_dict_is_refused_and_changes_nothing(what):
    change, parts = WRONG[what]
    optimizer = stepped(lr=0.5)
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError) as error:
        optimizer.load_state_dict(changed(stepped().state_dict(), change))
    assert all(part in str(error.value) for part in parts), error.value
    after = optimizer.state_dict()
    assert after["param_groups"] == before["param_groups"]
    assert_same_bits([after["state"][0]["momentum_buffer"]], [before["state"][0]["momentum_buffer"]])
    optimizer.load_state_dict(stepped().state_dict())


@pytest.mark.parametrize("step", [-1, 0.5, float("nan"), "two"])
def test_a_wrong_count_of_steps_is_refused(step):
    saved = changed(stepped(AdamW).state_dict(), lambda s, g, d: s.update(step=step))
    with pytest.raises(ValueError, match="step must be a whole number"):
        stepped(AdamW).load_state_dict(saved)


def test_a_state_that_was_tampered_with_is_refused_before_anything_is_stepped():
    first, second = nn.Parameter(torch.randn(6, 4)), nn.Parameter(torch.randn(8, 4))
    optimizer = Aurora([first, second])
    set_gradients([first, second], 0)
    optimizer.step()
    before = first.detach().clone()
    optimizer.state[second]["momentum_buffer"] = torch.zeros(4, 4)
    with pytest.raises(ValueError, match=r"momentum_buffer.*\[4, 4\].*\[8, 4\].*parameter 1"):
        optimizer.step()
    assert torch.equal(before, first)


@pytest.mark.parametrize("cls", CLASSES)
def test_a_model_moved_to_another_memory_format_goes_on_with_the_same_state(cls):
    torch.manual_seed(0)
    kernels = [nn.Parameter(torch.randn(6, 4, 3, 3, dtype=torch.float64)) for _ in range(2)]
    kernels[1].data = kernels[0].data.clone()
    for p in kernels:
        optimizer = cls([p])
        for step in range(4):
            if p is kernels[1] and step == 2:
                p.data = p.data.to(memory_format=torch.channels_last)
            set_gradients([p], step)
            optimizer.step()
    torch.testing.assert_close(kernels[0], kernels[1], rtol=1e-10, atol=1e-11)
