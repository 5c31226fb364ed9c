#!/usr/bin/env python3
"""Trains several optimizers with several seeds and prints, as Markdown, what became of the loss and of the neurons.

Everything but the optimizer is the same for one seed: initial weights, data order, schedule, clipping, evaluation. Runs that are
already there are not made again.

    .venv/bin/python bench/seeds.py --data FILE --out DIR [--optimizers adamw,muon,aurora] [--seeds 3] [--steps 500]
"""
import argparse
import json
import pathlib
import statistics
import subprocess


def run(args, optimizer, seed):
    folder = pathlib.Path(args.out) / optimizer.replace(":", "-").replace("+", "-").replace("=", "-") / f"seed-{seed}"
    command = [args.aurora, "train", "--data", args.data, "--optimizer", optimizer, "--preset", args.preset, "--steps",
               str(args.steps), "--seed", str(seed), "--threads", str(args.threads), "--out", str(folder), "--quiet"]
    subprocess.run(command + (["--resume"] if folder.exists() else []), check=True, stdout=subprocess.DEVNULL)
    with open(folder / "log.jsonl") as log:
        return [json.loads(line) for line in log]


def mean(values):
    values = [value for value in values if value is not None]
    return statistics.fmean(values) if values else float("nan")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--aurora", default="build/release/aurora")
    parser.add_argument("--optimizers", default="adamw,muon,aurora")
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()

    optimizers = args.optimizers.split(",")
    logs = {(o, seed): run(args, o, seed) for seed in range(args.seeds) for o in optimizers}  # seed by seed: fair to drifts
    summaries = {key: [r for r in log if r["kind"] == "summary"][-1] for key, log in logs.items()}

    print("| optimizer | loss | per seed | bits/byte | dead 0.1 | starved 0.1 | row CV | optimizer share | tokens/s | wall, s |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for o in optimizers:
        of = [summaries[o, seed] for seed in range(args.seeds)]
        print(f"| {o} | {mean(s['val_loss'] for s in of):.4f} | {' '.join(format(s['val_loss'], '.3f') for s in of)} "
              f"| {mean(s['bits_per_byte'] for s in of):.3f} | {mean(s['dead'] for s in of):.2%} "
              f"| {mean(s['starved'] for s in of):.2%} | {mean(s['update_row_norm_cv'] for s in of):.4f} "
              f"| {mean(s['optimizer_share'] for s in of):.1%} | {mean(s['tokens_per_second'] for s in of):.0f} "
              f"| {mean(s['seconds'] for s in of):.0f} |")

    print("\nPer layer at the last step, mean over seeds: starved (gate and up) at 0.01 / 0.1 / 0.5, dead at 0.01 / 0.1\n")
    layers = 1 + max(r["layer"] for r in logs[optimizers[0], 0] if r["kind"] == "neurons")
    print("| optimizer | " + " | ".join(f"layer {layer}" for layer in range(layers)) + " |")
    print("|---|" + "---|" * layers)
    for o in optimizers:
        cells = []
        for layer in range(layers):
            records = [[r for r in logs[o, seed] if r["kind"] == "neurons" and r["layer"] == layer][-1] for seed in range(args.seeds)]
            starved = [mean(r[m]["starved"][t] for r in records for m in ("gate", "up")) for t in ("0.01", "0.1", "0.5")]
            dead = [mean(r["dead"][t] for r in records) for t in ("0.01", "0.1")]
            cells.append(" / ".join(f"{100 * s:.1f}" for s in starved) + " %, " + " / ".join(f"{100 * d:.1f}" for d in dead) + " %")
        print(f"| {o} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
