"""Small training runs of several kinds of models."""

import itertools
from pydoc_data.topics import topics

import pytest
import torch
from torch import nn
from torch.nn import functional

from aurora_optim import AdamW, Aurora, Muon
from small_models import Decoder


@pytest.fixture(scope="module")
def text():
    """Real text that no change of ours touches: the language reference that Python ships for help()."""
    return torch.tensor(list("".join(topics[name] for name in sorted(topics)).encode()))


class ByteModel(nn.Module):
    """Eight bytes in, the next one out, through an MLP with tall and wide hidden matrices."""

    def __init__(self, context=8, width=24):
        super().__init__()
        self.embed = nn.Embedding(256, width)
        self.gate = nn.Linear(context * width, 96, bias=False)
        self.up = nn.Linear(96, 192, bias=False)
        self.down = nn.Linear(192, 96, bias=False)
        self.lm_head = nn.Linear(96, 256, bias=False)

    def forward(self, tokens):
        x = self.gate(self.embed(tokens).flatten(1))
        x = x + self.down(torch.relu(self.up(functional.rms_norm(x, (96,)))).square())
        return self.lm_head(functional.rms_norm(x, (96,)))


def loss_on_text(cls, text, lr, steps=150, **options):
    torch.manual_seed(0)
    model = ByteModel()
    optimizer = cls(model, lr=lr, weight_decay=0.0, **options)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    generator = torch.Generator().manual_seed(1)
    recent = []
    for _ in range(steps):
        at = torch.randint(len(text) - 9, (64,), generator=generator)
        windows = text[at[:, None] + torch.arange(9)]
        loss = functional.cross_entropy(model(windows[:, :8]), windows[:, 8])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        recent.append(loss.item())
    return sum(recent[-20:]) / 20


def test_on_real_text_the_matrix_rules_beat_adamw_at_its_best_rate(text):
    adamw = min(loss_on_text(AdamW, text, lr) for lr in (1e-3, 3e-3, 1e-2))
    for cls in (Muon, Aurora):
        assert loss_on_text(cls, text, 0.02, adamw_lr=3e-3) < adamw - 0.02


def test_a_convolutional_net_learns():
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(256, 32), nn.ReLU(),
        nn.Linear(32, 4),
    )  # fmt: skip
    model = model.to(memory_format=torch.channels_last)
    optimizer = Aurora(model)
    assert [p.name for p in optimizer.routing if p.rule == "aurora"] == ["0.weight", "3.weight", "7.weight"]
    y = torch.arange(64) % 4
    x = 0.5 * torch.randn(64, 1, 8, 8)
    for i in range(64):  # a bright quadrant
        x[i, 0, 4 * (y[i] // 2) : 4 * (y[i] // 2) + 4, 4 * (y[i] % 2) : 4 * (y[i] % 2) + 4] += 1
    for _ in range(30):
        loss = functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.3


def test_torchs_transformer_learns():
    model = nn.Transformer(16, 2, 1, 1, dim_feedforward=32, dropout=0.0, batch_first=True)
    optimizer = Aurora(model, blocks={"*.in_proj_weight": 3})
    assert all(p.rule == "aurora" for p in optimizer.routing if "in_proj_weight" in p.name)
    source, target = torch.randn(8, 5, 16), torch.randn(8, 5, 16)
    losses = []
    for _ in range(25):
        loss = (model(source, target) - target.flip(1)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_a_recurrent_net_splits_its_fused_gates():
    model = nn.Sequential(nn.LSTM(8, 16), nn.Identity())
    optimizer = Aurora(model, blocks={"0.weight_*": 4})
    state = model[0](torch.randn(5, 2, 8))[0].sum()
    state.backward()
    before = model[0].weight_hh_l0.detach().clone()
    optimizer.step()
    assert not torch.equal(before, model[0].weight_hh_l0)


def llama(dtype=torch.float32):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=64, num_key_value_heads=2, max_position_embeddings=32, **shape)
    return LlamaForCausalLM(config).to(dtype)


def test_llama_of_transformers_is_routed_as_ours():
    routing = Aurora(llama()).routing
    matrices = {p.name.split(".", 3)[3] for p in routing if p.rule == "aurora"}
    assert matrices == {
        "self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight", "self_attn.o_proj.weight",
        "mlp.gate_proj.weight", "mlp.up_proj.weight", "mlp.down_proj.weight",
    }  # fmt: skip
    assert {p.name: p.reason for p in routing}["lm_head.weight"] == "output head by name"


def test_llama_trains_under_the_trainer_of_transformers(tmp_path):
    pytest.importorskip("accelerate", reason="transformers.Trainer needs accelerate: requirements-test.txt")
    from transformers import Trainer, TrainingArguments

    model = llama()
    rows = [{"input_ids": row, "labels": row} for row in ((torch.arange(16) + i) % 64 for i in range(32))]
    optimizer = Aurora(model, heads={"*.q_proj.*": 4, "*.k_proj.*": 2})
    scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    arguments = TrainingArguments(
        output_dir=str(tmp_path), max_steps=20, per_device_train_batch_size=8, logging_steps=1, save_steps=10,
        use_cpu=True, report_to=[], disable_tqdm=True, seed=0, max_grad_norm=1.0,
    )  # fmt: skip
    trainer = Trainer(model=model, args=arguments, train_dataset=rows, optimizers=(optimizer, scheduler))
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 20 and losses[-1] < 0.6 * losses[0]
    assert optimizer.skipped_steps == 0
    resumed_model = llama()
    resumed = Aurora(resumed_model, heads={"*.q_proj.*": 4, "*.k_proj.*": 2})
    trainer = Trainer(
        model=resumed_model, args=arguments, train_dataset=rows,
        optimizers=(resumed, torch.optim.lr_scheduler.ConstantLR(resumed, factor=1.0)),
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-10"))
    for a, b in zip(model.parameters(), resumed_model.parameters()):
        assert torch.equal(a, b)


def test_weights_of_bfloat16_train():
    torch.manual_seed(0)
    model = Decoder().bfloat16()
    optimizer = Aurora(model)
    tokens = torch.arange(16).repeat(4)
    losses = []
    for _ in itertools.repeat(None, 30):
        loss = functional.cross_entropy(model(tokens).float(), (tokens + 1) % 16)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
