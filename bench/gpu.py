#!/usr/bin/env python3
"""Optimizer steps and training on one GPU, against PyTorch's own.

  step      all hidden matrices of GPT-2 124M and of a SwiGLU model of 1.1B: aurora_optim's Aurora and Muon, torch.optim.Muon as
            shipped, and the rules of aurora-release in eager bf16 (bench/peers.py)
  adamw     every parameter of GPT-2 124M: aurora_optim's AdamW, torch.optim.AdamW(fused=True)
  training  `aurora train --dtype bf16` at 124M: tokens per second, share of the measured bf16 matmul rate, optimizer's share

Directions are checked before anything is timed. Times are CUDA events around one step, medians of interleaved rounds after a
warm-up; a ratio is the median over rounds of theirs / ours. A step of ours must not wait for the GPU
(torch.cuda.set_sync_debug_mode) and must take no more memory after the second.

    python bench/gpu.py [--out FILE.md] [--json FILE] [--steps 40] [--data FILE...]
    python bench/gpu.py --device cpu --tiny      the whole script on the CPU, to test it
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from peers import CANS, DECAY, LR, MU, ROOT, SIMPLE, Rewritten, Shipped, orthogonality, release_direction, row_cv
import torch

try:
    import aurora_optim
except ImportError:
    sys.path.insert(0, str(ROOT / "build/release/python"))
    import aurora_optim

SETS = {"GPT-2 124M": (12, [(768, 768)] * 4 + [(3072, 768), (768, 3072)]),
        "1.1B": (22, [(2048, 2048)] * 2 + [(256, 2048)] * 2 + [(5632, 2048)] * 2 + [(2048, 5632)])}
VECTORS = [(50257, 768), (1024, 768)] + [(768,)] * 74 + [(2304,), (3072,)] * 12  # of GPT-2 124M, beside its matrices
MODEL = dict(layers=12, width=768, heads=12, context=1024, batch=16)
TINY_SETS = {"tiny": (2, [(16, 16), (48, 16), (16, 48)])}
TINY_MODEL = dict(layers=1, width=32, heads=2, context=32, batch=2)


class Clock:
    """Milliseconds of a call, on the GPU where there is one."""

    def __init__(self, device):
        self.cuda = device.type == "cuda"

    def __call__(self, work):
        if not self.cuda:
            start = time.perf_counter()
            work()
            return 1e3 * (time.perf_counter() - start)
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        begin.record()
        work()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end)


def interleaved(contenders, clock, args):
    """{name: milliseconds of each round} after a warm-up of all."""
    stop = time.perf_counter() + args.warmup
    while True:
        for contender in contenders.values():
            clock(contender.step)
        if time.perf_counter() >= stop:
            break
    times = {name: [] for name in contenders}
    for _ in range(args.rounds):
        for name, contender in contenders.items():
            times[name].append(clock(contender.step))
    return times


def ratio(times, theirs, ours):
    return statistics.median(t / o for t, o in zip(times[theirs], times[ours]))


def check(what, value, limit):
    if not value <= limit:
        sys.exit(f"bench/gpu.py: {what}: {value:.3g}, more than {limit:g}; nothing was timed")


def gradient(shape, seed, device):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device)


def direction(make, g):
    """What an optimizer makes of a gradient: a step at lr 1 from zero."""
    group = Shipped([g], lambda w: make(w, lr=1, weight_decay=0, momentum=0, nesterov=False))
    group.step()
    u = -group.weights[0].detach().double().cpu()
    return u / max(1, u.size(0) / u.size(1)) ** 0.5


def directions(shape, device):
    g = gradient(shape, 0, device)
    found = {"aurora": direction(aurora_optim.Aurora, g), "muon": direction(aurora_optim.Muon, g),
             "torch Muon": direction(torch.optim.Muon, g)}
    if shape[0] > shape[1]:
        found |= {name: release_direction(g, schedule, torch.bfloat16).double().cpu()
                  for name, schedule in {"May bf16": SIMPLE, "today bf16": CANS}.items()}
    text = "x".join(map(str, shape))
    for name, limit in {"aurora": 1e-2, "muon": 1e-2, "torch Muon": 0.9}.items():
        check(f"{text}: |U'U - I| of {name}", orthogonality(found[name]), limit)
    if shape[0] > shape[1]:
        check(f"{text}: row-norm CV of aurora", row_cv(found["aurora"]), 0.05)
    return [dict(part="direction", shape=text, name=name, row_norm_cv=row_cv(u), orthogonality_error=orthogonality(u))
            for name, u in found.items()]


def without_waiting(contender):
    torch.cuda.set_sync_debug_mode("error")
    try:
        contender.step()
    except RuntimeError as error:
        sys.exit(f"bench/gpu.py: a step waits for the GPU: {error}")
    finally:
        torch.cuda.set_sync_debug_mode("default")


def without_growing(contender):
    """Peak memory, MiB, of eight steps, that of the second not exceeded."""
    peaks = []
    for _ in range(8):
        torch.cuda.reset_peak_memory_stats()
        contender.step()
        torch.cuda.synchronize()
        peaks.append(torch.cuda.max_memory_allocated() / 2**20)
    check("memory of a later step, MiB", max(peaks[2:]), peaks[1])
    return peaks[-1]


def steps(name, layers, shapes, device, args):
    matrices = [gradient(shape, seed, device) for seed, shape in enumerate(shapes * layers)]
    options = dict(lr=LR, weight_decay=DECAY, momentum=MU)
    contenders = {"aurora": Shipped(matrices, lambda w: aurora_optim.Aurora(w, **options)),
                  "muon": Shipped(matrices, lambda w: aurora_optim.Muon(w, **options)),
                  "torch Muon": Shipped(matrices, lambda w: torch.optim.Muon(w, **options)),
                  "May bf16": Rewritten(matrices, release_direction, SIMPLE, torch.bfloat16),
                  "today bf16": Rewritten(matrices, release_direction, CANS, torch.bfloat16)}
    times = interleaved(contenders, Clock(device), args)
    row = dict(part="step", model=name, matrices=len(matrices), **{f"{k}, ms": statistics.median(t) for k, t in times.items()})
    row |= {"torch Muon / muon": ratio(times, "torch Muon", "muon"), "torch Muon / aurora": ratio(times, "torch Muon", "aurora")}
    row |= {f"{k} / aurora": ratio(times, k, "aurora") for k in ("May bf16", "today bf16")}
    if device.type == "cuda":
        for ours in ("aurora", "muon"):
            without_waiting(contenders[ours])
            row[f"{ours}, peak MiB"] = without_growing(contenders[ours])
    return row


def adamw(sets, device, args):
    layers, shapes = next(iter(sets.values()))
    tensors = [gradient(shape, seed, device) for seed, shape in enumerate(shapes * layers + ([] if args.tiny else VECTORS))]
    options = dict(lr=LR, betas=(0.9, 0.95), eps=1e-8, weight_decay=DECAY)
    contenders = {"adamw": Shipped(tensors, lambda w: aurora_optim.AdamW(w, **options)),
                  "torch AdamW": Shipped(tensors, lambda w: torch.optim.AdamW(w, fused=True, **options))}
    for contender in contenders.values():
        contender.step()
    ours, theirs = (contender.weights[0].detach() for contender in contenders.values())
    check("AdamW against torch's", ((ours - theirs).abs().max() / theirs.abs().max()).item(), 1e-4)
    times = interleaved(contenders, Clock(device), args)
    return dict(part="adamw", parameters=sum(x.numel() for x in tensors), ratio=ratio(times, "torch AdamW", "adamw"),
                **{f"{k}, ms": statistics.median(t) for k, t in times.items()})


def matmul_rate(device, args):
    """bf16 TFLOP/s of a large square product."""
    n = 256 if args.tiny else 8192
    a, b = (torch.randn(n, n, device=device, dtype=torch.bfloat16) for _ in range(2))

    class Product:
        def step(self):
            torch.mm(a, b)

    return 2e-9 * n**3 / statistics.median(interleaved({"mm": Product()}, Clock(device), args)["mm"])


def training(device, rate, optimizer, args):
    shape = TINY_MODEL if args.tiny else MODEL
    with tempfile.TemporaryDirectory() as folder:
        flags = [f"--{key}={value}" for key, value in shape.items()]
        flags += ["--data", *args.data, "--optimizer", optimizer, f"--steps={args.steps}", "--dtype=bf16", f"--device={device}"]
        flags += [f"--{what}-every=1000000" for what in ("eval", "diagnose", "save")]

        def aurora(*more):
            result = subprocess.run([args.binary, "train", *flags, *more], capture_output=True, text=True)
            if result.returncode:
                sys.exit(f"bench/gpu.py: {result.stderr.strip().splitlines()[-1]}")
            return result.stdout

        plan = json.loads(aurora("--dry-run", "--json"))
        aurora("--out", folder + "/run", "--quiet")
        records = map(json.loads, (pathlib.Path(folder) / "run/log.jsonl").read_text().splitlines())
        log = [record for record in records if record["kind"] == "train"][args.steps // 4:]
    seconds = statistics.median(record["step_ms"] for record in log) / 1e3
    return dict(part="training", optimizer=optimizer, parameters=plan["parameters"], tokens_per_step=plan["tokens_per_step"],
                tokens_per_second=plan["tokens_per_step"] / seconds, share_of_matmul_rate=plan["flops_per_step"] / seconds / (1e12 * rate),
                optimizer_share=statistics.median(record["optimizer_ms"] / record["step_ms"] for record in log),
                first_loss=log[0]["loss"], last_loss=log[-1]["loss"])


def text_of(value):
    return f"{value:.4g}" if isinstance(value, float) and abs(value) < 1e4 else f"{value:,.0f}" if isinstance(value, float) else str(value)


def table(rows):
    """Rows of one part, those with the same keys below each other."""
    lines = []
    keys = None
    for row in rows:
        if list(row) != keys:
            keys = list(row)
            lines += ["", "| " + " | ".join(keys[1:]) + " |", "|---" * (len(keys) - 1) + "|"]
        lines.append("| " + " | ".join(text_of(row[key]) for key in keys[1:]) + " |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small shapes, hardly any warm-up: a test of this script")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--warmup", type=float, default=5, help="seconds, before each comparison")
    parser.add_argument("--steps", type=int, default=40, help="of aurora train")
    parser.add_argument("--data", nargs="+", default=[str(ROOT / name) for name in ("docs", "include", "src", "trainer")])
    parser.add_argument("--binary", default=str(ROOT / "build/release/aurora"))
    parser.add_argument("--json", help="one row of results a line")
    parser.add_argument("--out", help="the tables as Markdown")
    args = parser.parse_args()
    device = torch.device(args.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit(f"bench/gpu.py: torch {torch.__version__} sees no CUDA device here (--device cpu --tiny tests this script without)")
    if args.tiny:
        args.rounds, args.warmup, args.steps = 2, 0, 4
    sets = TINY_SETS if args.tiny else SETS
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    rows = []

    def report(row):
        rows.append(row)
        print(json.dumps(row), flush=True)
        if args.json:
            with open(args.json, "a") as file:
                file.write(json.dumps(row) + "\n")

    rate = matmul_rate(device, args)
    report(dict(part="machine", device=name, torch=torch.__version__, cuda=torch.version.cuda, bf16_tflops=rate))
    for layers, shapes in sets.values():
        for shape in sorted(set(shapes)):
            for row in directions(shape, device):
                report(row)
    for model, (layers, shapes) in sets.items():
        report(steps(model, layers, shapes, device, args))
    report(adamw(sets, device, args))
    for optimizer in ("aurora", "muon", "adamw"):
        report(training(args.device, rate, optimizer, args))
    print(table(rows))
    if args.out:
        pathlib.Path(args.out).write_text(f"# {name}, torch {torch.__version__}\n" + table(rows))


if __name__ == "__main__":
    main()
