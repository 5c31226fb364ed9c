"""One process of a world: argv is rank, number of processes, folder, module of the cases. Leaves what each case raised, and
how long it took, in the folder."""

import importlib
import json
import pathlib
import sys
import time
import traceback
from datetime import timedelta

import torch
from torch import distributed


def main(rank, world, folder, module):
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world, timeout=timedelta(seconds=60)
    )
    results = {}
    for case in importlib.import_module(module).CASES:
        began = time.monotonic()
        try:
            case(world)
            error = ""
        except Exception:
            error = traceback.format_exc()
        results[case.__name__] = {"error": error, "seconds": time.monotonic() - began}
        (pathlib.Path(folder) / f"results.{rank}.json").write_text(json.dumps(results))
        if error:
            print(f"rank {rank}: {case.__name__}: {error}", file=sys.stderr, flush=True)
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
