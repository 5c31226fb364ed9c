#!/usr/bin/env python3
"""What a training step takes beside busy processes, for several ways to wait: docs/decisions/0007.

    .venv/bin/python bench/busy.py [--data FILE] [--steps 40] [--rounds 3] [--beside 0,1,4] [--spins 0,1000,300000]

Rounds are interleaved; a figure is the median over rounds of the median step of `aurora train --preset tiny`. A spin count of
300000 is libgomp's own.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUSY = [sys.executable, "-c", "while True: pass"]


def step_ms(spins, data, steps, folder):
    subprocess.run(
        [ROOT / "build/release/aurora", "train", "--data", data, "--out", folder, "--overwrite", "--preset", "tiny",
         "--steps", str(steps), "--eval-every", str(steps), "--diagnose-every", str(steps), "--quiet"],
        env={**os.environ, "GOMP_SPINCOUNT": spins}, check=True, stdout=subprocess.DEVNULL)
    records = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    times = [record["step_ms"] for record in records if record["kind"] == "train"]
    return statistics.median(times[2:])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default=str(ROOT / "README.md"))
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--beside", default="0,1,4")
    parser.add_argument("--spins", default="0,1000,300000")
    args = parser.parse_args()
    spins = args.spins.split(",")
    print(f"load before: {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} cores")
    with tempfile.TemporaryDirectory() as folder:
        for beside in map(int, args.beside.split(",")):
            busy = [subprocess.Popen(BUSY) for _ in range(beside)]
            try:
                times = {count: [] for count in spins}
                for _ in range(args.rounds):
                    for count in spins:
                        times[count].append(step_ms(count, args.data, args.steps, pathlib.Path(folder) / "run"))
            finally:
                for process in busy:
                    process.kill()
                    process.wait()
            shown = ", ".join(f"{count} spins {statistics.median(times[count]):.1f} ms" for count in spins)
            print(f"beside {beside} busy processes: {shown}", flush=True)


if __name__ == "__main__":
    main()
