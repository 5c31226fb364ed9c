"""The table of docs/families.md: `python tests/python/families_table.py` writes it, a test compares it."""

import json
import pathlib
import re
import sys
import warnings

ROOT = pathlib.Path(__file__).resolve().parents[2]
HEAD = """# What happens to which model

`print(Aurora(model).routing)` says it of a model of yours, with every guess marked. Here it is for small random models of the
families that the tests step (`tests/python/families.py`): after one step every one of these matrices has singular values of 1
and even rows, and everything else has moved as AdamW moves it. Written by `python tests/python/families_table.py`.

Weights of two axes that are not named here are one matrix `[out, in]` each, for the rule of the class. Vectors (norms, biases)
always go to AdamW. `*` stands for a number of a layer.

| family | class that says how | several matrices in one weight, or stored otherwise | to AdamW, beside vectors |
|---|---|---|---|
"""


def stem(name: str) -> str:
    name = re.sub(r"(^|\.)\d+(?=\.|$)", r"\1*", name.removesuffix(".weight"))
    return ".".join(name.split(".")[-3:]) if name.count(".") > 3 else name


def row(family) -> str:
    from aurora_optim import Aurora

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        routing = Aurora(family.make(), patterns=family.patterns).routing
    cuts, others = {}, {}
    for entry in routing:
        if entry.rule == "adamw":
            if len(entry.shape) > 1:
                others[stem(entry.name)] = True
        elif entry.cut or len(entry.shape) > 2:
            shape = "x".join(map(str, entry.shape))
            cuts[stem(entry.name)] = f"`{stem(entry.name)}` {shape}: {entry.matrices}" + (" (a guess)" if entry.guessed else "")
    name = family.name + (f", with `patterns={json.dumps(family.patterns)}`" if family.patterns else "")
    cells = [name, f"`{family.source}`", "; ".join(cuts.values()) or "none", ", ".join(f"`{o}`" for o in others)]
    return "| " + " | ".join(cells) + " |\n"


def table() -> str:
    from families import FAMILIES

    return HEAD + "".join(row(family) for family in FAMILIES)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "build/release/python"))
    (ROOT / "docs/families.md").write_text(table())
