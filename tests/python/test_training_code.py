"""What real training code does with an optimizer: freezes, adds, schedules, groups, watches."""

import warnings

import pytest
import torch
from torch import nn

from aurora_optim import AdamW, Aurora, Muon, NorMuon, param_groups
from small_models import assert_same_bits, decoder, run, set_gradients, weights


def step(model, optimizer, seed=0):
    set_gradients([p for p in model.parameters() if p.requires_grad], seed)
    optimizer.step()


class Adapter(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = nn.Linear(12, 6)
        self.act_norm = nn.LayerNorm(6)


# Groups


def test_a_module_is_routed_when_it_is_added():
    model, adapter = decoder(), Adapter()
    optimizer = Aurora(model, adamw_lr=0.004)
    optimizer.add_param_group(adapter)
    rules = {name: g["rule"] for g in optimizer.param_groups for name in g["param_names"]}
    assert rules["act_norm.weight"] == "adamw" and rules["down.bias"] == "adamw"
    assert optimizer.routing[-4].name == "down.weight"
    both = nn.ModuleList([model, adapter])
    before = weights(adapter)
    step(both, optimizer)
    assert all(not torch.equal(a, b) for a, b in zip(before, weights(adapter)))


def test_named_parameters_and_rates_of_an_added_group_are_routed_too():
    optimizer = Aurora(decoder(), lr=0.02, adamw_lr=0.004)
    adapter = Adapter()
    adapter.head = nn.Linear(6, 2)
    optimizer.add_param_group({"params": adapter.named_parameters(), "lr": 0.002, "name": "adapter"})
    new = [g for g in optimizer.param_groups if g.get("name") == "adapter"]
    assert [(g["rule"], pytest.approx(g["lr"])) for g in new] == [("aurora", 0.002), ("adamw", 0.0004)]


def test_tensors_of_the_model_are_routed_as_the_model_was():
    model = decoder()
    optimizer = Aurora(model, exclude=["up.*", "norm.*"])
    before = len(optimizer.param_groups)
    with pytest.raises(ValueError, match="AdamW"):  # of unknown tensors a vector belongs to nobody
        optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(3))]})
    assert len(optimizer.param_groups) == before
    full = Aurora(model)
    del full.param_groups[:]
    full.add_param_group({"params": list(model.parameters()), "lr": 0.01})
    assert {g["rule"] for g in full.param_groups} == {"aurora", "adamw"}


def test_excluded_parameters_are_left_alone():
    model = decoder()
    before = model.up.weight.detach().clone()
    optimizer = Aurora(model, exclude=["up.*"])
    step(model, optimizer)
    assert torch.equal(before, model.up.weight) and "up.weight" not in [p.name for p in optimizer.routing]
    with pytest.raises(ValueError, match="'nothing'"):
        Aurora(model, exclude=["nothing"])


def test_patterns_give_hyperparameters():
    model = decoder()
    optimizer = Aurora(
        model,
        patterns={"embed.*": {"lr": 0.3}, "lm_head.*": {"lr": 0.001}, "down.weight": {"weight_decay": 0.0}, "up.*": "adamw"},
    )
    of = {name: g for g in optimizer.param_groups for name in g["param_names"]}
    assert of["embed.weight"]["lr"] == 0.3 and of["lm_head.weight"]["lr"] == 0.001 and of["norm.bias"]["lr"] == 0.003
    assert of["down.weight"]["weight_decay"] == 0.0 and of["down.weight"]["rule"] == "aurora"
    assert of["up.weight"]["rule"] == "adamw" and of["up.weight"]["lr"] == 0.003
    step(model, optimizer)
    for patterns, part in [
        ({"nothing": {"lr": 1.0}}, "nothing"),
        ({"*": {"lr": 1.0}, "up.weight": {"lr": 2.0}}, "contradict"),
        ({"up.weight": {"learning_rate": 1.0}}, "did you mean 'lr'"),
    ]:
        with pytest.raises(ValueError, match=part):
            Aurora(model, patterns=patterns)
    assert Aurora(model, patterns=None).routing


def test_param_groups_are_the_groups_of_the_model_to_edit():
    model, whole = decoder(), decoder()
    groups = param_groups(model, lr=0.05, adamw_lr=0.01)
    assert [g["rule"] for g in groups] == ["aurora", "adamw"] and groups[1]["lr"] == 0.01
    first, second = Aurora(groups), Aurora(whole, lr=0.05, adamw_lr=0.01)
    run(model, first, 2)
    run(whole, second, 2)
    assert_same_bits(weights(model), weights(whole))
    assert {g["rule"] for g in param_groups(model.named_parameters(), "muon")} == {"muon", "adamw"}
    with pytest.raises(TypeError, match="did you mean 'lr'"):
        param_groups(model, learning_rate=0.1)
    with pytest.raises(ValueError, match="did you mean 'normuon'"):
        param_groups(model, "nomuon")


# Schedulers


def schedulers(optimizer, rates):
    scheduler = torch.optim.lr_scheduler
    return {
        "OneCycleLR": lambda: scheduler.OneCycleLR(optimizer, max_lr=rates, total_steps=10),
        "CyclicLR": lambda: scheduler.CyclicLR(optimizer, base_lr=rates, max_lr=rates, cycle_momentum=False),
    }


@pytest.mark.parametrize("name", ["OneCycleLR", "CyclicLR", "SWALR"])
def test_one_rate_for_all_groups_is_said_aloud(name):
    from torch.optim.swa_utils import SWALR

    for each, warned in ((False, True), (True, False)):
        model = decoder()
        optimizer = Aurora(model)
        rates = [g["lr"] for g in optimizer.param_groups] if each else 0.02
        if name == "SWALR":
            scheduler = SWALR(optimizer, swa_lr=rates, anneal_epochs=1)
        else:
            scheduler = schedulers(optimizer, rates)[name]()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for seed in range(4):
                step(model, optimizer, seed)
                scheduler.step()
        assert sum("Every group now has the learning rate" in str(w.message) for w in caught) == warned


def test_equal_rates_that_were_asked_for_are_no_mistake():
    model = decoder()
    optimizer = Aurora(model, lr=0.01, adamw_lr=0.01, scale="match_rms_adamw")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(model, optimizer)


# Warnings and statistics


def test_fifty_skipped_steps_in_a_row_give_one_warning():
    model = decoder()
    optimizer = Aurora(model)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(120):
            set_gradients(model.parameters(), 0)
            model.up.weight.grad[0, 0] = float("nan")
            optimizer.step()
    assert [str(w.message) for w in caught] and len(caught) == 1 and "50 steps in a row" in str(caught[0].message)


@pytest.mark.parametrize("cls", [AdamW, Muon, Aurora])
def test_statistics_are_what_the_watched_step_did(cls):
    model = decoder(dtype=torch.float64)
    optimizer = cls(model)
    assert optimizer.statistics == {}
    optimizer.watch(every=2)
    for seed in range(4):
        before = weights(model)
        step(model, optimizer, seed)
        if seed % 2:
            continue
        after = weights(model)
        names = [name for name, _ in model.named_parameters()]
        group = optimizer.param_groups[0]
        at = [names.index(name) for name in group["param_names"]]
        changed = torch.cat([(after[i] - before[i]).flatten() for i in at])
        weight = torch.cat([before[i].flatten() for i in at])
        found = optimizer.statistics
        key = f"0.{cls.rule}"
        assert found[f"{key}/update_rms"] == pytest.approx(changed.square().mean().sqrt().item(), rel=1e-9)
        assert found[f"{key}/update_to_weight"] == pytest.approx((changed.norm() / weight.norm()).item(), rel=1e-9)
        assert (f"{key}/starved" in found) == (cls is not AdamW)
    optimizer.watch(0)
    assert optimizer.statistics == {}
    with pytest.raises(ValueError, match="-1"):
        optimizer.watch(-1)


# State dicts


class Reordered(nn.Module):
    """The same parameters, of which two of one shape come in another order."""

    def __init__(self, first, second):
        super().__init__()
        for name in (first, second):
            setattr(self, name, nn.Linear(8, 8, bias=False))
        self.lm_head = nn.Linear(8, 4, bias=False)


def test_states_go_by_name_and_not_by_order():
    saved_model, model = Reordered("a", "b"), Reordered("b", "a")
    saved, loaded = Muon(saved_model), Muon(model)
    step(saved_model, saved)
    loaded.load_state_dict(saved.state_dict())
    for name in "ab":
        kept = saved.state[getattr(saved_model, name).weight]
        found = loaded.state[getattr(model, name).weight]
        assert all(torch.equal(kept[key], found[key]) for key in kept), name
    other = Reordered("a", "c")
    with pytest.raises(ValueError, match="by name: c"):
        Muon(other).load_state_dict(saved.state_dict())


def test_a_state_of_fewer_trained_parameters_loads_where_the_rest_is_frozen():
    model = decoder()
    optimizer = Aurora(model, exclude=["up.*"])
    step(model, optimizer)
    saved = optimizer.state_dict()
    model.up.requires_grad_(False)
    Aurora(model).load_state_dict(saved)
    model.up.requires_grad_(True)
    with pytest.raises(ValueError, match="lacks.*up.weight"):
        Aurora(model).load_state_dict(saved)


def pair_of(model, named):
    hidden = [(n, p) for n, p in model.named_parameters() if n in ("up.weight", "down.weight")]
    rest = [(n, p) for n, p in model.named_parameters() if n not in ("up.weight", "down.weight")]
    given = (lambda pairs: pairs) if named else (lambda pairs: [p for _, p in pairs])
    return torch.optim.Muon(given(hidden), lr=0.1, weight_decay=0.2), torch.optim.AdamW(given(rest), lr=0.01, betas=(0.8, 0.9))


@pytest.mark.parametrize("named", [False, True])
def test_a_pair_of_torchs_muon_and_adamw_loads(named):
    model = decoder()
    muon, adamw = pair_of(model, named)
    for seed in range(2):
        set_gradients(model.parameters(), seed)
        muon.step()
        adamw.step()
    optimizer = Aurora(model)
    optimizer.load_pair(muon.state_dict(), adamw.state_dict())
    matrix, other = optimizer.param_groups
    assert (matrix["lr"], matrix["weight_decay"], other["lr"], other["betas"]) == (0.1, 0.2, 0.01, (0.8, 0.9))
    assert matrix["rule"] == "aurora" and matrix["balance"] == "odds" and "ns_steps" not in matrix
    for p in (model.up.weight, model.down.weight):
        assert torch.equal(optimizer.state[p]["momentum_buffer"], muon.state[p]["momentum_buffer"])
    for p in (model.embed.weight, model.norm.bias, model.lm_head.weight):
        assert torch.equal(optimizer.state[p]["exp_avg"], adamw.state[p]["exp_avg"])
    step(model, optimizer)
    assert float(optimizer.state[model.norm.bias]["step"]) == 3
    with pytest.raises(ValueError, match="muon has 1 parameters, and here are 2"):
        optimizer.load_pair(torch.optim.Muon([model.up.weight]).state_dict(), adamw.state_dict())


def test_a_state_of_sgd_is_refused():
    model = decoder()
    sgd = torch.optim.SGD([model.up.weight], lr=0.1, momentum=0.9)
    set_gradients([model.up.weight], 0)
    sgd.step()
    for cls in (Muon, AdamW):
        with pytest.raises(ValueError, match="torch.optim.SGD"):
            cls([model.up.weight]).load_state_dict(sgd.state_dict())


def test_a_state_of_adam_with_decay_is_refused():
    weight = nn.Parameter(torch.randn(4, 4))
    with pytest.raises(ValueError, match="torch.optim.Adam "):
        AdamW([weight]).load_state_dict(torch.optim.Adam([weight], weight_decay=0.1).state_dict())
    AdamW([weight]).load_state_dict(torch.optim.Adam([weight]).state_dict())


@pytest.mark.parametrize("cls, options, key", [
    (NorMuon, {}, "second_momentum_buffer"),
    (Aurora, {"balance": "carried"}, "row_scales"),
])  # fmt: skip
def test_states_of_rows_that_were_not_saved_begin_anew_aloud(cls, options, key):
    weight = nn.Parameter(torch.randn(8, 4))
    muon = torch.optim.Muon([weight])
    set_gradients([weight], 0)
    muon.step()
    optimizer = cls([weight], **options)
    with pytest.warns(UserWarning, match=f"{key}.*begin anew"):
        optimizer.load_state_dict(muon.state_dict())
    assert torch.equal(optimizer.state[weight]["momentum_buffer"], muon.state[weight]["momentum_buffer"])
    assert not optimizer.state[weight][key].any()
    set_gradients([weight], 1)
    optimizer.step()
    assert optimizer.state[weight][key].any()


# Frameworks


def trainer_of_transformers(model, factory, arguments):
    from transformers import Trainer, TrainingArguments

    rows = [{"input_ids": row, "labels": row} for row in ((torch.arange(16) + i) % 64 for i in range(32))]
    return Trainer(model, TrainingArguments(**arguments), train_dataset=rows, optimizer_cls_and_kwargs=factory)


def trainer_of_trl(model, factory, arguments):
    trl = pytest.importorskip("trl", reason="requirements-test.txt")
    from datasets import Dataset

    from test_recipes import tokenizer

    rows = Dataset.from_list([{"input_ids": ((torch.arange(16) + i) % 64).tolist()} for i in range(32)])
    return trl.SFTTrainer(
        model, trl.SFTConfig(**arguments, bf16=False, max_length=None), train_dataset=rows,
        processing_class=tokenizer(), optimizer_cls_and_kwargs=factory,
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make_trainer", [trainer_of_transformers, trainer_of_trl], ids=["transformers", "trl"])
def test_a_run_of_a_trainer_resumes_bit_for_bit(make_trainer, tmp_path):
    pytest.importorskip("accelerate", reason="transformers.Trainer needs accelerate: requirements-test.txt")
    from transformers import set_seed

    from test_recipes import llama

    def trained(steps, **resume):
        set_seed(0)
        model = llama()
        arguments = {
            "output_dir": str(tmp_path), "max_steps": steps, "save_steps": 2, "report_to": "none", "use_cpu": True,
            "disable_tqdm": True, "per_device_train_batch_size": 4, "lr_scheduler_type": "constant", "logging_steps": 100,
        }  # fmt: skip
        trainer = make_trainer(model, (Aurora.factory, {"lr": 0.02, "momentum": 0.9}), arguments)
        trainer.train(**resume)
        assert trainer.optimizer.optimizer.param_groups[0]["momentum"] == 0.9
        return weights(model)

    whole = trained(4)
    assert_same_bits(whole, trained(4, resume_from_checkpoint=str(tmp_path / "checkpoint-2")))


def test_lightning_clips_in_mixed_precision():
    plugins = pytest.importorskip("lightning.pytorch.plugins", reason="requirements-test.txt")
    model = decoder()
    optimizer = Aurora(model)
    set_gradients(model.parameters(), 0)
    precision = plugins.MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu"))
    precision.clip_gradients(optimizer, clip_val=1.0)
    assert torch.nn.utils.get_total_norm([p.grad for p in model.parameters()]) <= 1.0 + 1e-5


def test_lightnings_finetuning_adds_what_the_optimizer_was_not_given():
    callbacks = pytest.importorskip("lightning.pytorch.callbacks", reason="requirements-test.txt")
    model = decoder()
    optimizer = Aurora(model, exclude=["up.*"])
    callbacks.BaseFinetuning.unfreeze_and_add_param_group([model.up], optimizer, lr=0.004, train_bn=True)
    rules = {id(p): g for g in optimizer.param_groups for p in g["params"]}
    assert rules[id(model.up.weight)]["rule"] == "aurora" and rules[id(model.up.bias)]["rule"] == "adamw"
    assert rules[id(model.up.weight)]["lr"] == 0.004
    before = weights(model)
    step(model, optimizer)
    assert all(not torch.equal(a, b) for a, b in zip(before, weights(model)))


# Help


def test_help_lists_every_keyword():
    from aurora_optim.groups import OPTIONS

    for word in OPTIONS:
        assert f"\n    {word}: " in (Aurora.__doc__ or ""), word
    assert "\n    exclude: " in (AdamW.__doc__ or "") and "adamw_lr" not in (AdamW.__doc__ or "")


def test_a_trainers_optimizer_keeps_every_state_unless_a_group_is_named():
    model = decoder()
    assert Aurora.factory()(model)._ranks_options.process_group is None
    assert Aurora.factory()(model, process_group="default")._ranks_options.process_group == "default"
    assert Aurora(model)._ranks_options.process_group == "default"
