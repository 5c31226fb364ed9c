#!/usr/bin/env python3
"""Training speed of `aurora train` against the same model and optimizer written in eager PyTorch.

Both see the same bytes, shapes, threads, schedule, clipping and optimizer; runs alternate, and the figure is the median over
rounds of ours / theirs in tokens per second, each from the median step of a run (steps after the tenth; evaluation, neuron
records and checkpoints excluded on both sides). The final losses are compared first: the initial weights come from
different generators, so they agree to the spread of seeds and not to the bit.

    .venv/bin/python bench/training.py --data FILE [--optimizer aurora] [--preset tiny] [--steps 150] [--rounds 3]
"""
import argparse
import json
import math
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

if "OMP_WAIT_POLICY" not in os.environ:  # threads that wait sleep soon, so a busy machine costs little
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import torch
import torch.nn.functional as F
from torch import nn

PRESETS = {"tiny": dict(width=128, layers=4, heads=4, context=128), "small": dict(width=512, layers=8, heads=8, context=512)}
KELLER_JORDAN = [(3.4445, -4.7750, 2.0315)] * 5


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.head = width // heads
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(width, width, bias=False) for _ in range(4))

    def forward(self, x, cos, sin):
        def heads(y):
            return y.view(x.size(0), x.size(1), -1, self.head).transpose(1, 2)

        def rotate(y):
            first, second = y.chunk(2, -1)
            return y * cos + torch.cat((-second, first), -1) * sin

        q, k, v = heads(self.q_proj(x)), heads(self.k_proj(x)), heads(self.v_proj(x))
        y = F.scaled_dot_product_attention(rotate(q), rotate(k), v, is_causal=True)
        return self.o_proj(y.transpose(1, 2).reshape(x.shape))


class Layer(nn.Module):
    def __init__(self, width, heads, expansion):
        super().__init__()
        self.input_norm, self.mlp_norm = nn.RMSNorm(width, eps=1e-5), nn.RMSNorm(width, eps=1e-5)
        self.attention = Attention(width, heads)
        self.gate = nn.Linear(width, expansion * width, bias=False)
        self.up = nn.Linear(width, expansion * width, bias=False)
        self.down = nn.Linear(expansion * width, width, bias=False)

    def forward(self, x, cos, sin):
        x = x + self.attention(self.input_norm(x), cos, sin)
        y = self.mlp_norm(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class Llama(nn.Module):
    def __init__(self, width, layers, heads, context, init, expansion=4):
        super().__init__()
        self.embed = nn.Embedding(256, width)
        self.layers = nn.ModuleList(Layer(width, heads, expansion) for _ in range(layers))
        self.norm = nn.RMSNorm(width, eps=1e-5)
        self.head = nn.Linear(width, 256, bias=False)
        angle = torch.outer(torch.arange(context).float(), 10000.0 ** -(torch.arange(0, width // heads, 2) / (width // heads)))
        self.register_buffer("cos", torch.cat((angle, angle), 1).cos())
        self.register_buffer("sin", torch.cat((angle, angle), 1).sin())
        for name, p in self.named_parameters():
            if name == "embed.weight":
                nn.init.normal_(p, std=init["embedding"])
            elif name == "head.weight":
                nn.init.normal_(p, std=init["head"])
            elif p.ndim == 2:
                gain = init["output"] if "o_proj" in name or "down" in name else init["hidden"]
                nn.init.normal_(p, std=gain / math.sqrt(p.size(1)))

    def forward(self, tokens):
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x, self.cos[: tokens.size(1)], self.sin[: tokens.size(1)])
        return self.head(self.norm(x))


def polar(x, schedule):
    """Polar factors of a batch [b, m, n]; exact ones from an eigen-decomposition in float64, as ours."""
    wide = x.size(1) < x.size(2)
    x = x.mT if wide else x
    if schedule:
        y = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
        for a, b, c in schedule:
            gram = y.mT @ y
            y = a * y + y @ (b * gram + c * gram @ gram)
    else:
        z = x.double()
        w, v = torch.linalg.eigh(z.mT @ z)
        root = torch.where(w > w[:, -1:] * 2.3e-13, w, torch.inf).rsqrt()
        y = (z @ ((v * root[:, None, :]) @ v.mT)).float()
    return y.mT if wide else y


class MatrixOptimizer(torch.optim.Optimizer):
    """Muon or Aurora (release iteration, K = 2), equal shapes stacked into one batch."""

    def __init__(self, params, rule, schedule, lr=0.02, momentum=0.95, weight_decay=0.025):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))
        self.rule, self.schedule = rule, schedule

    def direction(self, b):
        if self.rule == "muon" or b.size(1) <= b.size(2):
            return polar(b, self.schedule)
        d = 1 / b.norm(dim=2, keepdim=True).clamp_min(1e-7)
        u = polar(d * b, self.schedule)
        d = d * (b.size(2) / b.size(1) / u.square().sum(2, keepdim=True).clamp_min(1e-14)).sqrt()
        return polar(d * b, self.schedule)

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            shapes = {}
            for p in group["params"]:
                shapes.setdefault(p.shape, []).append(p)
            for shape, params in shapes.items():
                grads = [p.grad for p in params]
                buffers = [self.state[p].setdefault("momentum_buffer", torch.zeros_like(p)) for p in params]
                torch._foreach_lerp_(buffers, grads, 1 - group["momentum"])
                u = self.direction(torch.stack(torch._foreach_lerp(grads, buffers, group["momentum"])))
                torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(params, list(u.unbind()), alpha=-group["lr"] * math.sqrt(max(1, shape[0] / shape[1])))


def theirs(args, preset, init, text, validation):
    torch.manual_seed(0)
    model = Llama(**preset, init=init)
    matrices = [p for n, p in model.layers.named_parameters() if p.ndim == 2]
    rest = [p for n, p in model.named_parameters() if not n.startswith("layers.") or p.ndim < 2]
    schedule = KELLER_JORDAN if args.polar == "keller-jordan-5" else None
    optimizers = [MatrixOptimizer(matrices, args.optimizer, schedule),
                  torch.optim.AdamW(rest, lr=3e-3, betas=(0.9, 0.95), weight_decay=0.0, fused=True)]
    base = [0.02, 3e-3]
    generator = torch.Generator().manual_seed(1)
    context, times = preset["context"], []
    for step in range(args.steps):
        start = time.perf_counter()
        at = torch.randint(len(text) - context - 1, (16,), generator=generator)
        batch = text[at[:, None] + torch.arange(context + 1)].long()
        loss = F.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
        factor = min(1, (step + 1) / (0.04 * args.steps)) * min(1, (args.steps - step) / (0.4 * args.steps))
        for optimizer, lr in zip(optimizers, base):
            optimizer.param_groups[0]["lr"] = lr * factor
            optimizer.step()
        loss.item()
        times.append(time.perf_counter() - start)
    with torch.no_grad():
        count = min(32768 // context, (len(validation) - 1) // context)
        losses = []
        for first in range(0, count, 16):
            rows = torch.arange(first, min(first + 16, count))[:, None] * context + torch.arange(context + 1)
            batch = validation[rows].long()
            losses.append((F.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten()).item(), len(rows)))
    return 16 * context / statistics.median(times[10:]), sum(l * n for l, n in losses) / sum(n for _, n in losses)


def ours(args, folder):
    command = [args.aurora, "train", "--data", args.data, "--optimizer", args.optimizer, "--preset", args.preset, "--steps",
               str(args.steps), "--out", str(folder), "--overwrite", "--quiet", "--threads", str(args.threads), "--batch", "16",
               "--eval-every", str(args.steps), "--diagnose-every", str(args.steps), "--set", f"optim.polar={args.polar}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    records = [json.loads(line) for line in open(folder / "log.jsonl")]
    steps = [r for r in records if r["kind"] == "train"]
    share = sum(r["optimizer_ms"] for r in steps[10:]) / sum(r["step_ms"] for r in steps[10:])
    loss = [r["loss"] for r in records if r["kind"] == "eval"][-1]
    return 1000 * steps[0]["tokens"] / statistics.median(r["step_ms"] for r in steps[10:]), loss, share


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--aurora", default="build/release/aurora")
    parser.add_argument("--optimizer", choices=["muon", "aurora"], default="aurora")
    parser.add_argument("--polar", choices=["exact", "keller-jordan-5"], default="exact")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="tiny")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--init", default="0.5,0.5,0.05,0.001", help="embedding,hidden,output,head as in trainer/model.hpp")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    init = dict(zip(("embedding", "hidden", "output", "head"), map(float, args.init.split(","))))
    data = torch.frombuffer(bytearray(pathlib.Path(args.data).read_bytes()), dtype=torch.uint8)
    cut = len(data) - len(data) // 10
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        for round_number in range(args.rounds):
            speed, loss, share = ours(args, pathlib.Path(folder) / "run")
            peer_speed, peer_loss = theirs(args, PRESETS[args.preset], init, data[:cut], data[cut:])
            if abs(loss - peer_loss) > 0.1:
                raise SystemExit(f"not the same training: validation loss {loss:.3f} against {peer_loss:.3f}")
            ratios.append(speed / peer_speed)
            print(f"round {round_number + 1}: ours {speed:.0f} tokens/s (loss {loss:.3f}, optimizer {share:.1%}), "
                  f"eager PyTorch {peer_speed:.0f} tokens/s (loss {peer_loss:.3f}), ratio {ratios[-1]:.3f}", flush=True)
    print(f"{args.optimizer}, polar {args.polar}, {args.preset}, {args.threads} threads: median ratio {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
