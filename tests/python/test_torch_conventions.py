"""What torch promises of an optimizer."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn

from aurora_optim import AdamW, Aurora, Muon, SpectralOptimizer
from small_models import CLASSES, assert_same_bits, assert_same_states, decoder, run, set_gradients, weights


@pytest.mark.parametrize("cls", CLASSES)
def test_a_closure_is_called_with_gradients_and_its_loss_returned(cls):
    model = decoder()
    optimizer = cls(model)

    def closure():
        optimizer.zero_grad()
        loss = model(torch.arange(16)).square().mean()
        loss.backward()
        return loss

    with torch.no_grad():
        first = optimizer.step(closure)
        second = optimizer.step(closure)
    assert second.item() < first.item()


def test_groups_have_options_of_their_own_and_keep_foreign_keys():
    a, b = nn.Parameter(torch.zeros(8, 4)), nn.Parameter(torch.zeros(8, 4))
    optimizer = Aurora([{"params": [a], "lr": 0.5, "name": "first"}, {"params": b, "lr_scale": 3}], lr=0.25)
    gradient = torch.randn(8, 4)
    a.grad, b.grad = gradient.clone(), gradient.clone()
    optimizer.step()
    assert torch.equal(a, 2 * b) and a.norm() > 0
    assert optimizer.param_groups[0]["name"] == "first" and optimizer.param_groups[1]["lr_scale"] == 3


def test_a_group_may_follow_another_rule():
    matrix, bias = nn.Parameter(torch.randn(8, 4)), nn.Parameter(torch.randn(8))
    alone = nn.Parameter(bias.detach().clone())
    optimizer = Aurora([{"params": [matrix]}, {"params": [bias], "rule": "adamw"}], adamw_lr=0.125)
    reference = AdamW([alone], lr=0.125)
    assert "momentum" not in optimizer.param_groups[1] and "betas" not in optimizer.param_groups[0]
    for step in range(3):
        set_gradients([bias, matrix], step)
        alone.grad = bias.grad.clone()
        optimizer.step()
        reference.step()
    assert_same_bits([bias.detach()], [alone.detach()])


def test_a_group_can_be_added_later_and_a_wrong_one_changes_nothing():
    model = decoder()
    optimizer = Aurora([model.up.weight])
    optimizer.add_param_group({"params": [model.down.weight], "lr": 0.5})
    assert optimizer.param_groups[1]["lr"] == 0.5 and optimizer.param_groups[1]["momentum"] == 0.95
    with pytest.raises(ValueError, match="group 2, parameter 0.*AdamW|AdamW.*group 2, parameter 0"):
        optimizer.add_param_group({"params": [model.up.bias]})
    assert len(optimizer.param_groups) == 2
    run(model, optimizer, 1)


def test_schedulers_multiply_every_group():
    model = decoder()
    optimizer = Aurora(model, lr=0.5, adamw_lr=0.25)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    run(model, optimizer, 1)
    scheduler.step()
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.125]
    assert [group["initial_lr"] for group in optimizer.param_groups] == [0.5, 0.25]


def test_the_one_cycle_scheduler_works_too():
    model = decoder()
    optimizer = Aurora(model)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=[0.1, 0.01], total_steps=4)
    seen = []
    for _ in range(3):
        run(model, optimizer, 1)
        scheduler.step()
        seen.append((optimizer.param_groups[0]["momentum"], optimizer.param_groups[1]["lr"]))
    assert min(seen)[0] < 0.9 and max(lr for _, lr in seen) > 2 * min(lr for _, lr in seen)


def test_a_learning_rate_may_be_a_tensor():
    a, b = nn.Parameter(torch.zeros(8, 4)), nn.Parameter(torch.zeros(8, 4))
    a.grad = b.grad = torch.randn(8, 4)
    Aurora([a], lr=torch.tensor(0.5)).step()
    Aurora([b], lr=0.5).step()
    assert torch.equal(a, b)


def test_hooks_run_around_a_step():
    model = decoder()
    optimizer = Aurora(model)
    seen = []
    optimizer.register_step_pre_hook(lambda *_: seen.append(("pre", len(optimizer.state))))
    optimizer.register_step_post_hook(lambda *_: seen.append(("post", len(optimizer.state) > 0)))
    run(model, optimizer, 1)
    assert seen == [("pre", 0), ("post", True)]


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("way", ["deepcopy", "pickle"])
def test_a_copy_goes_on_as_the_original(cls, way):
    model = decoder()
    optimizer = cls(model)
    run(model, optimizer, 2)
    optimizer._stepper.set_skipped(5, 1)
    both = (model, optimizer)
    other_model, other = copy.deepcopy(both) if way == "deepcopy" else pickle.loads(pickle.dumps(both))
    assert type(other) is cls and other.skipped_steps == 5
    assert_same_states(optimizer, other)
    run(model, optimizer, 2, start=2)
    run(other_model, other, 2, start=2)
    assert_same_bits(weights(model), weights(other_model))
    assert all(p is not q for p, q in zip(model.parameters(), other_model.parameters()))


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
@pytest.mark.parametrize("cls", CLASSES)
def test_a_gradient_that_is_not_finite_changes_nothing_and_is_counted(cls, value):
    model = decoder()
    optimizer = cls(model)
    run(model, optimizer, 1)
    before, kept = weights(model), copy.deepcopy(optimizer.state_dict())
    set_gradients(model.parameters(), 1)
    model.lm_head.weight.grad[3, 2] = value
    optimizer.step()
    optimizer.step()
    assert_same_bits(before, weights(model))
    for key, state in optimizer.state_dict()["state"].items():
        assert_same_bits(list(state.values()), list(kept["state"][key].values()))
    assert (optimizer.skipped_steps, optimizer.skipped_in_a_row) == (2, 2)
    run(model, optimizer, 1)
    assert (optimizer.skipped_steps, optimizer.skipped_in_a_row) == (2, 0)


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("unscale", [False, True])
def test_under_a_grad_scaler_steps_are_those_without_and_infs_are_skipped(unscale, inside):
    scaled, plain = decoder(), decoder()
    optimizers = Aurora(scaled), Aurora(plain)
    if inside:  # the step divides and skips, not the scaler
        optimizers[0]._step_supports_amp_scaling = True
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=10_000)
    tokens = torch.arange(16)
    for step in range(6):
        infected = step in (2, 3)
        for model, optimizer in zip((scaled, plain), optimizers):
            optimizer.zero_grad()
            loss = model(tokens).square().mean()
            (scaler.scale(loss) if model is scaled else loss).backward()
        if infected:
            scaled.up.weight.grad[0, 0] = float("inf")
        if unscale:
            scaler.unscale_(optimizers[0])
        scaler.step(optimizers[0])
        scaler.update()
        if not infected:
            optimizers[1].step()
        assert_same_bits(weights(scaled), weights(plain))
    assert optimizers[0].skipped_steps == (2 if inside else 0) and optimizers[1].skipped_steps == 0
    assert scaler.get_scale() == 256.0
    assert not hasattr(optimizers[0], "found_inf")


def test_gradients_of_accumulated_batches_make_one_step():
    once, parts = decoder(), decoder()
    tokens = torch.arange(16)
    for model, batches in ((once, [tokens]), (parts, tokens.split(4))):
        optimizer = Aurora(model)
        for batch in batches:
            (model(batch).square().sum() / 16).backward()
        optimizer.step()
    for a, b in zip(weights(once), weights(parts)):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_a_compiled_model_and_a_compiled_step_do_the_same():
    eager, compiled = decoder(), decoder()
    first, second = Aurora(eager), Aurora(compiled)
    torch._dynamo.reset()
    compiled_step = torch.compile(second.step, backend="eager")
    for step in range(3):
        set_gradients(eager.parameters(), step)
        set_gradients(compiled.parameters(), step)
        first.step()
        compiled_step()
    assert_same_bits(weights(eager), weights(compiled))


def test_a_step_inside_a_whole_graph_is_refused_by_name():
    model = decoder()
    optimizer = Aurora(model)
    set_gradients(model.parameters(), 0)
    torch._dynamo.reset()

    @torch.compile(backend="eager", fullgraph=True)
    def step():
        optimizer.step()

    with pytest.raises(torch._dynamo.exc.Unsupported, match="aurora_optim"):
        step()


def test_a_step_inside_a_captured_cuda_graph_is_refused(monkeypatch):
    model = decoder()
    optimizer = Aurora(model)
    before = weights(model)
    set_gradients(model.parameters(), 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(RuntimeError, match="CUDA graph"):
        optimizer.step()
    assert_same_bits(before, weights(model))


def test_zero_grad_forgets_gradients():
    model = decoder()
    optimizer = Aurora(model)
    set_gradients(model.parameters(), 0)
    optimizer.zero_grad()
    assert all(p.grad is None for p in model.parameters())
    before = weights(model)
    with pytest.warns(UserWarning, match="No parameter of this step has a gradient"):
        optimizer.step()
    assert_same_bits(before, weights(model))
    assert optimizer.skipped_steps == 0


def test_autograd_notices_that_a_step_changed_a_weight():
    weight = nn.Parameter(torch.randn(4, 4))
    optimizer = Muon([weight])
    weight.grad = torch.randn(4, 4)
    loss = (weight * weight).sum()
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_states_follow_a_model_to_another_type():
    model = decoder()
    optimizer = Aurora(model, momentum=0.95)
    set_gradients(model.parameters(), 0)
    optimizer.step()
    before = {name: optimizer.state[p]["momentum_buffer"].clone() for name, p in model.named_parameters()
              if "momentum_buffer" in optimizer.state[p]}  # fmt: skip
    model.double()
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    after = {name: optimizer.state[p] for name, p in model.named_parameters()}
    assert {value.dtype for state in after.values() for key, value in state.items() if key != "step"} == {torch.float64}
    # m <- 0.95 m in float64, of the float32 numbers that were there.
    assert all(torch.allclose(after[n]["momentum_buffer"], 0.95 * m.double(), rtol=1e-15, atol=0) for n, m in before.items())
    assert before and all(float(state.get("step", 2)) == 2 for state in after.values())


def test_every_class_is_an_optimizer_of_torch():
    for cls in CLASSES:
        optimizer = cls(decoder())
        assert isinstance(optimizer, SpectralOptimizer) and isinstance(optimizer, torch.optim.Optimizer)
        assert cls.__name__ in repr(optimizer)


def test_a_saved_optimizer_is_safe_to_load():
    model = decoder()
    optimizer = Aurora(model, dimensions={"up.weight": {"rows": [0], "cols": [1]}})
    run(model, optimizer, 1)
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=True)
    optimizer.load_state_dict(loaded)
