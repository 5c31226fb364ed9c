"""A training loop in the manner of nanoGPT: warmup and decay, accumulation, clipping, evaluation, checkpoints.

    python examples/train_gpt.py --text input.txt --steps 500
"""

import argparse
import os
import pathlib

if "OMP_WAIT_POLICY" not in os.environ:  # threads that wait sleep soon, so a busy machine costs little
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import torch
from torch import nn
from torch.nn import functional

from aurora_optim import Aurora, diagnose

parser = argparse.ArgumentParser()
parser.add_argument("--text", type=pathlib.Path, required=True, help="a file to learn from, byte by byte")
parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("checkpoint.pt"))
parser.add_argument("--resume", action="store_true", help="go on with --out")
for name, default in [("width", 128), ("layers", 4), ("heads", 4), ("context", 128), ("batch", 16), ("steps", 500)]:
    parser.add_argument(f"--{name}", type=int, default=default)
parser.add_argument("--accumulate", type=int, default=1, help="micro-batches of a step")
parser.add_argument("--eval-every", type=int, default=100)
arguments = parser.parse_args()


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)  # fused: said to the optimizer below
        self.proj = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)
        self.norm1, self.norm2 = nn.RMSNorm(width), nn.RMSNorm(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in self.qkv(self.norm1(x)).chunk(3, dim=-1))
        attended = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(attended.transpose(1, 2).flatten(2))
        return x + self.down(torch.relu(self.up(self.norm2(x))).square())


class GPT(nn.Module):
    def __init__(self, width: int, layers: int, heads: int, context: int) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(256, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.RMSNorm(width)
        self.lm_head = nn.Linear(width, 256, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.lm_head(self.norm(x))


def batch(data: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    at = torch.randint(len(data) - arguments.context - 1, (arguments.batch,))
    windows = data[at[:, None] + torch.arange(arguments.context + 1)]
    return windows[:, :-1], windows[:, 1:]


def loss_on(data: torch.Tensor) -> torch.Tensor:
    tokens, targets = batch(data)
    return functional.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())


torch.manual_seed(1337)
data = torch.tensor(list(arguments.text.read_bytes()))
training, validation = data[: len(data) * 9 // 10], data[len(data) * 9 // 10 :]

model = GPT(arguments.width, arguments.layers, arguments.heads, arguments.context)
optimizer = Aurora(model, lr=0.02, adamw_lr=3e-3, blocks={"*.qkv.weight": 3})
warmup = max(1, arguments.steps // 20)
scheduler = torch.optim.lr_scheduler.LambdaLR(
    optimizer, lambda step: min((step + 1) / warmup, 1.0, max(0.0, (arguments.steps - step) / (0.4 * arguments.steps)))
)
first = 0
if arguments.resume:
    saved = torch.load(arguments.out, weights_only=True)
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    scheduler.load_state_dict(saved["scheduler"])
    torch.set_rng_state(saved["random"])
    first = saved["step"]

for step in range(first, arguments.steps):
    optimizer.zero_grad()
    for _ in range(arguments.accumulate):
        (loss_on(training) / arguments.accumulate).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    scheduler.step()
    if (step + 1) % arguments.eval_every == 0 or step + 1 == arguments.steps:
        with torch.no_grad():
            loss = sum(loss_on(validation).item() for _ in range(4)) / 4
        starved = [matrix["starved_0.1"] for matrix in diagnose(optimizer).values()]
        print(f"step {step + 1}: validation loss {loss:.4f}, starved rows {100 * sum(starved) / len(starved):.1f} %")
        torch.save(
            {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "scheduler": scheduler.state_dict(),
                "random": torch.get_rng_state(),
                "step": step + 1,
            },
            arguments.out,
        )
