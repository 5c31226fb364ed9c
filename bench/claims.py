#!/usr/bin/env python3
"""Prints, as Markdown, what a folder of `aurora compare` says about the published claims: neurons by layer and step, each claim at each
threshold, losses paired by seed with their 95 % interval.

    .venv/bin/python bench/claims.py DIR [--steps 100,200,300,400,500]
"""
import argparse
import json
import math
import pathlib
import statistics

from scipy.stats import t as student


def records(folder):
    with open(folder / "log.jsonl") as log:
        return [json.loads(line) for line in log]


def mean(values):
    values = [value for value in values if value is not None]
    return statistics.fmean(values) if values else math.nan


def interval(values):
    """Mean and half the width of its 95 % interval by Student's t."""
    if len(values) < 2:
        return mean(values), math.nan
    return mean(values), student.ppf(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))


def percent(share):
    return "-" if math.isnan(share) else f"{100 * share:.1f}"


class Runs:
    """The logs of every optimizer and seed under DIR/runs."""

    def __init__(self, folder):
        self.logs = {}
        for seed in sorted(folder.glob("runs/*/seed-*")):
            self.logs.setdefault(seed.parent.name, {})[int(seed.name.split("-")[1])] = records(seed)
        self.names = list(self.logs)

    def neurons(self, name, step, layer=None):
        return [r for log in self.logs[name].values() for r in log
                if r["kind"] == "neurons" and r["step"] == step and layer in (None, r["layer"])]

    def share(self, name, step, what, threshold, layer=None):
        found = self.neurons(name, step, layer)
        if what == "dead":
            return mean(r["dead"][threshold] for r in found)
        matrices = ("gate", "up") if what == "starved" else ("down",)
        return mean(r[m]["starved"][threshold] for r in found for m in matrices)

    def loss(self, name):
        return {seed: [r for r in log if r["kind"] == "summary"][-1]["val_loss"]
                for seed, log in self.logs[name].items() if any(r["kind"] == "summary" for r in log)}

    def difference(self, a, b):
        """Losses of a minus b over the seeds that both have finished."""
        of_a, of_b = self.loss(a), self.loss(b)
        return interval([of_a[seed] - of_b[seed] for seed in of_a if seed in of_b])


def by_layer(runs, steps):
    layers = 1 + max(r["layer"] for r in runs.neurons(runs.names[0], steps[-1]))
    print("Starved rows of gate and up (0.1) / dead neurons (0.1), percent, mean over seeds:\n")
    print("| optimizer | step | " + " | ".join(f"layer {layer}" for layer in range(layers)) + " | all |")
    print("|---|---|" + "---|" * (layers + 1))
    for name in runs.names:
        for step in steps:
            cells = [f"{percent(runs.share(name, step, 'starved', '0.1', layer))} / "
                     f"{percent(runs.share(name, step, 'dead', '0.1', layer))}" for layer in (*range(layers), None)]
            print(f"| {name} | {step} | " + " | ".join(cells) + " |")


def thresholds(runs, step):
    print(f"\nAt step {step}, percent of all neurons, mean over layers and seeds:\n")
    print("| optimizer | dead 0.01 | dead 0.1 | starved 0.01 | starved 0.1 | starved 0.5 | down's columns starved 0.01 | 0.1 | 0.5 "
          "| CV of down's column norms | row-norm CV of gate and up |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for name in runs.names:
        found = runs.neurons(name, step)
        cells = [percent(runs.share(name, step, "dead", x)) for x in ("0.01", "0.1")]
        cells += [percent(runs.share(name, step, what, x)) for what in ("starved", "down") for x in ("0.01", "0.1", "0.5")]
        cells += [f"{mean(r['down']['update_row_norm_cv'] for r in found):.3f}",
                  f"{mean(r[m]['update_row_norm_cv'] for r in found for m in ('gate', 'up')):.3f}"]
        print(f"| {name} | " + " | ".join(cells) + " |")


def losses(runs, baseline):
    print(f"\n| optimizer | loss | minus {baseline} | seeds |\n|---|---|---|---|")
    for name in sorted(runs.names, key=lambda name: mean(runs.loss(name).values())):
        value, half = interval(list(runs.loss(name).values()))
        cells = [f"{value:.4f} ± {half:.4f}"]
        cells.append("" if name == baseline else "{:+.4f} ± {:.4f}".format(*runs.difference(name, baseline)))
        print(f"| {name} | " + " | ".join(cells) + f" | {len(runs.loss(name))} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--steps", default="100,200,300,400,500")
    parser.add_argument("--baseline", default="muon")
    args = parser.parse_args()
    steps = [int(step) for step in args.steps.split(",")]
    runs = Runs(args.folder)
    losses(runs, args.baseline)
    thresholds(runs, steps[-1])
    print()
    by_layer(runs, steps)


if __name__ == "__main__":
    main()
