#!/usr/bin/env python3
"""Whole optimizer steps against PyTorch's, in one process on one memory: momentum, direction and apply on both sides.

Strictly interleaved rounds; a ratio is the median over rounds of theirs / ours. Each result is checked before anything is timed:
the peer against our own version of its rule, ours against a float64 reference. A group holds one matrix per thread. The peers are
rewritten from the published rules with fused operations and no copies:

  torch Muon          torch.optim.Muon as shipped (bf16 products)
  torch Muon fp32     the same rule without the cast
  May fp32 / bf16     aurora-release, May 2026: K = 2, each 12 x (2, -1.5, 0.5)
  today fp32 / bf16   aurora-release today: K = 2, each CANS-12
  Riemannian          aurora-release's Riemannian variant, fp32
  torch AdamW         torch.optim.AdamW(fused=True), 10 million parameters

    .venv/bin/python bench/peers.py [--threads 1] [--shapes 1024x384,...] [--families gauss,...] [--recorded FILE...]
                                    [--sequence FOLDER...] [--parts aurora,muon,optimum,carried,adamw] [--out FILE.md]

PyTorch's MKL takes narrow kernels on CPUs that Intel did not make, where ours takes OpenBLAS (docs/decisions/0002): the first line
gives the rate of one product in PyTorch and the kernels of ours. Our steps come through the C interface of libaurora.so.
"""
import argparse
import ctypes
import json
import math
import os
import pathlib
import platform
import re
import statistics
import sys
import time

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # a spinning pool would take the other side's core
import torch

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHAPES = "1024x384,2048x768,3072x768,768x768"
FAMILIES = ("gauss", "pow1+logn", "pow.5+t2", "clustered", "sparse")
LR, DECAY, MU = 0.02, 0.025, 0.95
JORDAN = [(3.4445, -4.7750, 2.0315)] * 5
SIMPLE = [(2.0, -1.5, 0.5)] * 12
CANS = [(5.18250, -5.17810, 0), (2.58612, -0.64795, 0), (2.56736, -0.64550, 0), (2.52056, -0.63935, 0), (2.41076, -0.62487, 0),
        (2.18833, -0.59520, 0), (1.85958, -0.55045, 0), (1.58902, -0.51266, 0), (1.50517, -0.50074, 0)] + [(1.5, -0.5, 0)] * 3


# Inputs -----------------------------------------------------------------------------------------------------------------

def family(kind, m, n, seed):
    g = torch.Generator().manual_seed(seed)
    j = torch.arange(1, n + 1, dtype=torch.float64)

    def normal(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    def lognormal(mean, deviation, *shape):
        return (mean + deviation * normal(*shape)).exp()

    def student(degrees, *shape):
        return normal(*shape) / (sum(normal(*shape).square() for _ in range(degrees)) / degrees).sqrt()

    rotation = torch.linalg.qr(normal(n, n))[0]
    if kind == "gauss":  # flat spectrum, equal rows
        x = normal(m, n)
    elif kind == "pow1+logn":  # spectrum j^-1, lognormal row scales
        x = (normal(m, n) / j) @ rotation * lognormal(0, 1, m, 1)
    elif kind == "pow.5+t2":  # spectrum j^-1/2, heavy-tailed row scales
        x = (normal(m, n) / j.sqrt()) @ rotation * student(2, m, 1).abs()
    elif kind == "clustered":  # rows near 48 directions of uneven popularity
        k = 48
        which = torch.multinomial(1 / torch.arange(1, k + 1, dtype=torch.float64), m, True, generator=g)
        x = (normal(k, n) / j.sqrt())[which] * lognormal(0, 0.5, m, 1) + 0.1 * normal(m, n) / j.sqrt()
        x = x @ rotation * lognormal(0, 1, m, 1)
    elif kind == "sparse":  # sums over 4096 tokens, some rows fire on a handful of them
        tokens = 4096
        rate = lognormal(-4.5, 1.5, m, 1).clamp(2 / tokens, 0.5)
        s = (torch.rand(m, tokens, generator=g, dtype=torch.float64) < rate) * student(4, m, tokens)
        s[torch.arange(m), torch.randint(tokens, (m,), generator=g)] += 1
        x = s @ ((normal(tokens, n) * j**-0.6) @ rotation)
    else:
        sys.exit(f"bench/peers.py: unknown family {kind}: one of {', '.join(FAMILIES)}")
    return (x / x.norm()).float().contiguous()


def recorded(path, shape=None):
    """The tall or square matrices of a safetensors file, at most one for each role in the name."""
    from safetensors.torch import load_file
    tensors = {}
    for name, x in sorted(load_file(path).items()):
        if x.ndim == 2 and (shape is None or tuple(x.shape) == shape):
            tensors[name] = x.float().contiguous()
    return tensors


# Peers ------------------------------------------------------------------------------------------------------------------

def newton_schulz(g, schedule, dtype):
    x = g.to(dtype)
    wide = x.size(0) < x.size(1)  # the Gram matrix on the short side, from the left as in torch.optim.Muon
    x = x if wide else x.T
    x = x / x.norm().clamp(min=1e-7)
    for a, b, c in schedule:
        gram = x @ x.T
        if c:
            gram = torch.addmm(gram, gram, gram, beta=b, alpha=c)
            x = torch.addmm(x, gram, x, beta=a)
        else:
            x = torch.addmm(x, gram, x, beta=a, alpha=b)
    return (x if wide else x.T).to(g.dtype)


def release_direction(b, schedule, dtype):
    m, n = b.shape
    if m <= n:
        return newton_schulz(b, schedule, dtype)
    d = 1 / b.norm(dim=1, keepdim=True).clamp(min=1e-7)
    u = newton_schulz(d * b, schedule, dtype)
    d = d * (n / m / u.square().sum(1, keepdim=True).clamp(min=1e-14)).sqrt()
    return newton_schulz(d * b, schedule, dtype)


def riemannian_direction(b, schedule, dtype):
    m, n = b.shape
    r = n / m
    u = newton_schulz(b, schedule, dtype)
    for _ in range(3):
        s = u.T @ b
        s = (s + s.T) / 2
        h = u.square().sum(1)
        q = (b * u).sum(1) - ((u @ s) * u).sum(1)
        q = q - q.mean()
        shift = r + max(0.0, h.square().max().item() - r + 1e-3)
        lam = torch.zeros_like(q)
        residual, direction, rho = q.clone(), q.clone(), q @ q
        for _ in range(20):
            image = shift * direction - ((u @ (u.T @ (direction[:, None] * u))) * u).sum(1)
            alpha = rho / (direction @ image)
            lam = lam + alpha * direction
            residual = residual - alpha * image
            new = residual @ residual
            if new.sqrt() <= 1e-15:
                break
            direction, rho = residual + new / rho * direction, new
        s = s - u.T @ (lam[:, None] * u)
        u = u + 0.1 * (b - u @ s - lam[:, None] * u)
        for _ in range(2):
            u = newton_schulz(u * (math.sqrt(r) / u.norm(dim=1, keepdim=True).clamp(min=1e-7)), schedule, dtype)
    return u


class Group:
    """Weights, gradients and momentum of one contender; all contenders see equal gradients."""

    def __init__(self, matrices):
        self.gradients = [x.clone() for x in matrices]
        self.weights = [torch.zeros_like(x) for x in matrices]
        self.momenta = [torch.zeros_like(x) for x in matrices]


class Rewritten(Group):
    """A published direction in PyTorch behind the same momentum and apply."""

    def __init__(self, matrices, direction, *arguments):
        super().__init__(matrices)
        self.direction, self.arguments = direction, arguments

    @torch.no_grad()
    def step(self):
        for w, m, g in zip(self.weights, self.momenta, self.gradients):
            m.lerp_(g, 1 - MU)
            u = self.direction(g.lerp(m, MU), *self.arguments)
            w.mul_(1 - LR * DECAY).add_(u, alpha=-LR * math.sqrt(max(1, w.size(0) / w.size(1))))


class Shipped(Group):
    """An optimizer of torch.optim."""

    def __init__(self, matrices, make):
        super().__init__(matrices)
        self.weights = [torch.nn.Parameter(w) for w in self.weights]
        for w, g in zip(self.weights, self.gradients):
            w.grad = g
        self.optimizer = make(self.weights)

    def step(self):
        self.optimizer.step()


class Matrix(ctypes.Structure):
    """aurora_matrix of include/aurora/aurora.h, on the memory of a float32 tensor of one or two axes."""
    _fields_ = [("data", ctypes.c_void_p), *((name, ctypes.c_int64) for name in ("rows", "cols", "row_stride", "col_stride")),
                ("dtype", ctypes.c_int)]

    def __init__(self, x, rows, cols):
        assert x.dtype is torch.float32 and x.is_contiguous() and x.numel() == rows * cols
        super().__init__(x.data_ptr(), rows, cols, cols, 1, 0)


def matrices_of(tensors):
    """Packed by rows; a vector is 1 x n."""
    return (Matrix * len(tensors))(*(Matrix(x, *(x.shape if x.ndim == 2 else (1, x.numel()))) for x in tensors))


class Library:
    """The C interface, from libaurora.so."""

    def __init__(self, build, threads):
        file = pathlib.Path(build) / "libaurora.so"
        if not file.exists():
            sys.exit(f"bench/peers.py: {file} is missing: make build")
        self.c = ctypes.CDLL(str(file))
        self.c.aurora_last_error.restype = self.c.aurora_backend_description.restype = ctypes.c_char_p
        self.c.aurora_rule_row_state_size.restype = ctypes.c_int64
        self.backend = ctypes.c_void_p()
        self.call("backend_create_cpu", threads, ctypes.byref(self.backend))
        self.description = self.c.aurora_backend_description(self.backend).decode()

    def call(self, name, *arguments):
        if getattr(self.c, "aurora_" + name)(*arguments) != 0:
            sys.exit("bench/peers.py: " + self.c.aurora_last_error().decode())

    def rule(self, variant):
        rule = ctypes.c_void_p()
        self.call("rule_create", variant.encode(), ctypes.byref(rule))
        return rule

    def direction(self, variant, g):
        u = torch.empty_like(g)
        self.call("direction", self.backend, self.rule(variant), ctypes.c_size_t(1), matrices_of([g]), matrices_of([u]))
        return u


class Ours(Group):
    def __init__(self, library, matrices, variant):
        super().__init__(matrices)
        self.library = library
        rule = library.rule(f"{variant}{'+' if ':' in variant else ':'}lr={LR}+weight_decay={DECAY}")
        sizes = [library.c.aurora_rule_row_state_size(rule, *map(ctypes.c_int64, x.shape)) for x in matrices]
        self.states = [torch.zeros(size, 1) for size in sizes if size > 0]
        self.arguments = (library.backend, rule, ctypes.c_size_t(len(matrices)), matrices_of(self.gradients),
                          matrices_of(self.momenta), matrices_of(self.states) if self.states else None, matrices_of(self.weights))

    def step(self):
        self.library.call("step", *self.arguments)


# Measures ---------------------------------------------------------------------------------------------------------------

def row_cv(u):
    lengths = u.double().norm(dim=1)
    return (lengths.std(correction=0) / lengths.mean()).item()


def orthogonality(u):
    u = u.double() if u.size(0) >= u.size(1) else u.double().T
    return (u.T @ u - torch.eye(u.size(1), dtype=torch.float64)).abs().max().item()


def alignment(g, u):
    return (g.double() * u.double()).sum().item()


def exact(g):
    u, _, v = torch.linalg.svd(g.double(), full_matrices=False)
    return u @ v


def check(what, value, limit):
    if not value <= limit:
        sys.exit(f"bench/peers.py: {what}: {value:.3g}, more than {limit:g}; nothing was timed")


def milliseconds(work):
    start = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - start)


def interleaved(contenders, rounds):
    """Milliseconds of each contender, round by round, after one round of warm-up."""
    times = {name: [] for name in contenders}
    for r in range(rounds + 1):
        for name, contender in contenders.items():
            t = milliseconds(contender.step)
            if r:
                times[name].append(t)
    return times


def ratio(times, theirs, ours):
    return statistics.median(t / o for t, o in zip(times[theirs], times[ours]))


# Parts ------------------------------------------------------------------------------------------------------------------

def inputs(args, m, n):
    for kind in args.families.split(","):
        if kind:
            yield kind, [family(kind, m, n, seed) for seed in range(args.threads)]
    for path in args.recorded:
        found = list(recorded(path, (m, n)).values())
        if found:
            yield "recorded " + pathlib.Path(path).stem, [found[i % len(found)] for i in range(args.threads)]


def report(rows, **row):
    rows.write(json.dumps(row) + "\n")
    rows.flush()
    print(json.dumps({k: (float(f"{v:.4g}") if isinstance(v, float) else v) for k, v in row.items()}), flush=True)


def matrices(args, library, rows):
    """Parts aurora and muon: every shape and input."""
    for text in args.shapes.split(","):
        m, n = map(int, text.split("x"))
        for kind, group in inputs(args, m, n):
            g = group[0]
            row = dict(part="matrix", threads=args.threads, shape=text, input=kind)
            contenders = {}
            if "aurora" in args.parts and m > n:
                may, today = release_direction(g, SIMPLE, torch.float32), release_direction(g, CANS, torch.float32)
                same = library.direction("aurora:balance=release+polar=simple-quintic-12", g)
                check(f"{text} {kind}: May release against ours", ((may - same).norm() / same.norm()).item(), 1e-3)
                same = library.direction("aurora:balance=release+polar=cans-12", g)
                check(f"{text} {kind}: today's release against ours", ((today - same).norm() / same.norm()).item(), 5e-3)
                u = library.direction("aurora", g)
                check(f"{text} {kind}: |U'U - I| of Aurora", orthogonality(u), 1e-3)
                row |= dict(cv=row_cv(u), cv_may=row_cv(may), cv_today=row_cv(today), cv_ratio=row_cv(may) / row_cv(u),
                            orth=orthogonality(u), orth_may=orthogonality(may), orth_today=orthogonality(today),
                            aligned=alignment(g, u) / alignment(g, may))
                contenders |= {"aurora": Ours(library, group, "aurora"),
                               "May fp32": Rewritten(group, release_direction, SIMPLE, torch.float32),
                               "today fp32": Rewritten(group, release_direction, CANS, torch.float32)}
                if args.bf16:
                    contenders |= {"May bf16": Rewritten(group, release_direction, SIMPLE, torch.bfloat16),
                                   "today bf16": Rewritten(group, release_direction, CANS, torch.bfloat16)}
            u = library.direction("muon", g)
            error = ((u.double() - exact(g)).norm() / math.sqrt(min(m, n))).item()
            check(f"{text} {kind}: our polar factor", error, 1e-3 if kind == "gauss" or m > n else 0.1)
            jordan = newton_schulz(g, JORDAN, torch.float32)
            same = library.direction("muon:polar=keller-jordan-5", g)
            check(f"{text} {kind}: torch Muon's rule against ours", ((jordan - same).norm() / same.norm()).item(), 1e-3)
            row |= dict(muon_error=error)
            contenders["torch Muon"] = Shipped(group, lambda w: torch.optim.Muon(w, lr=LR, weight_decay=DECAY, momentum=MU))
            if "muon" in args.parts:
                contenders |= {"torch Muon fp32": Rewritten(group, newton_schulz, JORDAN, torch.float32),
                               "muon": Ours(library, group, "muon"),
                               "muon jordan": Ours(library, group, "muon:polar=keller-jordan-5")}
            times = interleaved(contenders, args.rounds)
            row |= {name + ", ms": statistics.median(t) / len(group) for name, t in times.items()}
            row |= {f"{theirs} / {ours}": ratio(times, theirs, ours) for theirs in times for ours in times
                    if isinstance(contenders[ours], Ours) and not isinstance(contenders[theirs], Ours)
                    and ours.split()[0] in theirs.lower().replace("may", "aurora").replace("today", "aurora") + (
                        " aurora" if theirs == "torch Muon" else "")}
            report(rows, **row)


def optimum(args, library, rows):
    """<G,U> of balance = optimum and of the Riemannian variant at its best of five input scales."""
    m, n = 1024, 384
    for kind, group in inputs(args, m, n):
        g = group[0]
        for evaluations in (6, 12, 24, 48):  # as few as make the rows even
            variant = f"aurora:balance=optimum+pp_iterations={evaluations}"
            u = library.direction(variant, g)
            if row_cv(u) <= 1e-3:
                break
        check(f"{kind}: row CV of the optimum", row_cv(u), 1e-3)
        best, best_even = -math.inf, -math.inf  # of all, and of those with rows as even as ours must be
        spectral = torch.linalg.matrix_norm(g, 2).item()
        for scale in (1, 1 / spectral, math.sqrt(n), 10 / spectral, 100 / spectral):
            v = riemannian_direction(g * scale, CANS, torch.float32)
            if torch.isfinite(v).all():
                best = max(best, alignment(g, v))
                best_even = max(best_even, alignment(g, v)) if row_cv(v) <= 1e-3 else best_even
        times = interleaved({"optimum": Ours(library, [g], variant),
                             "Riemannian": Rewritten([g], riemannian_direction, CANS, torch.float32)}, min(args.rounds, 3))
        report(rows, part="optimum", threads=args.threads, shape=f"{m}x{n}", input=kind, evaluations=evaluations, cv=row_cv(u), orth=orthogonality(u),
               aligned=alignment(g, u) / best, aligned_even=alignment(g, u) / best_even if best_even > 0 else None, time_ratio=ratio(times, "Riemannian", "optimum"),
               **{k + ", ms": statistics.median(t) for k, t in times.items()})


def gradients_of(momenta):
    """The gradients that lead from one recorded momentum buffer to the next."""
    return [(after - MU * before) / (1 - MU) for before, after in zip(momenta, momenta[1:])]


def carried(args, library, rows):
    """balance = carried on momentum recorded step by step, from the second step on."""
    for folder in args.sequence:
        files = sorted(pathlib.Path(folder).glob("momentum-*.safetensors"), key=lambda f: int(re.findall(r"\d+", f.name)[0]))
        names = [name for name, x in recorded(files[0]).items() if x.size(0) > x.size(1)]
        for name in names[:: max(1, len(names) // args.sequence_matrices)][: args.sequence_matrices]:
            momenta = [recorded(f)[name] for f in files]
            group = [momenta[0]] * args.threads
            contenders = {"carried": Ours(library, group, "aurora:balance=carried"),
                          "May fp32": Rewritten(group, release_direction, SIMPLE, torch.float32)}
            for contender in contenders.values():
                for m in contender.momenta:
                    m.copy_(momenta[0])
            times = {k: [] for k in contenders}
            cvs = {k: [] for k in contenders}
            for step, g in enumerate(gradients_of(momenta)):
                for k, contender in contenders.items():
                    before = contender.weights[0].clone()
                    for own in contender.gradients:
                        own.copy_(g)
                    t = milliseconds(contender.step)
                    if step:
                        times[k].append(t)
                        cvs[k].append(row_cv(contender.weights[0] - (1 - LR * DECAY) * before))
            report(rows, part="carried", threads=args.threads, shape="x".join(map(str, momenta[0].shape)),
                   input=f"{pathlib.Path(folder).name} {name}", steps=len(momenta) - 1, ratio=ratio(times, "May fp32", "carried"),
                   **{k + ", ms": statistics.median(t) / args.threads for k, t in times.items()},
                   cv=statistics.median(cvs["carried"]), cv_may=statistics.median(cvs["May fp32"]))


class OurAdamW(Group):
    def __init__(self, library, vectors):
        super().__init__(vectors)
        self.library, self.seconds, self.count = library, [torch.zeros_like(x) for x in vectors], 0
        self.rule = library.rule(f"adamw:lr={LR}+weight_decay={DECAY}")
        self.arguments = (ctypes.c_size_t(len(vectors)), *map(matrices_of, (self.gradients, self.momenta, self.seconds, self.weights)))

    def step(self):
        self.count += 1
        self.library.call("adamw_step", self.library.backend, self.rule, ctypes.c_int64(self.count), *self.arguments)


def adamw(args, library, rows):
    vector = torch.randn(10_000_000, generator=torch.Generator().manual_seed(0))
    ours = OurAdamW(library, [vector])
    theirs = Shipped([vector], lambda w: torch.optim.AdamW(w, lr=LR, betas=(0.9, 0.95), eps=1e-8, weight_decay=DECAY, fused=True))
    times = interleaved({"torch AdamW": theirs, "adamw": ours}, 20 * args.rounds)
    check("AdamW against torch's", ((ours.weights[0] - theirs.weights[0]).abs().max() / theirs.weights[0].abs().max()).item(), 1e-5)
    report(rows, part="adamw", threads=args.threads, shape="10M", input="gauss", ratio=ratio(times, "torch AdamW", "adamw"),
           **{k + ", ms": statistics.median(t) for k, t in times.items()})


def threads(args, library, rows):
    """A group of 12 matrices on two threads against one thread."""
    group = [family("gauss", 1024, 384, seed) for seed in range(12)]
    contenders = {"one": Ours(Library(args.build, 1), group, "aurora"), "two": Ours(Library(args.build, 2), group, "aurora")}
    times = interleaved(contenders, 3 * args.rounds)
    check("two threads against one", (contenders["one"].weights[0] - contenders["two"].weights[0]).abs().max().item(), 1e-6)
    report(rows, part="group", threads=2, shape="12 of 1024x384", input="gauss", ratio=ratio(times, "one", "two"),
           **{k + ", ms": statistics.median(t) for k, t in times.items()})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--shapes", default=SHAPES)
    parser.add_argument("--families", default=",".join(FAMILIES))
    parser.add_argument("--recorded", nargs="*", default=[], help="safetensors files; their matrices of the given shapes")
    parser.add_argument("--sequence", nargs="*", default=[], help="folders with momentum-STEP.safetensors, for balance=carried")
    parser.add_argument("--sequence-matrices", type=int, default=2)
    parser.add_argument("--parts", default="aurora,muon,optimum,carried,adamw")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bf16", action="store_true", help="the release with bf16 products too")
    parser.add_argument("--build", default=str(ROOT / "build/release"))
    parser.add_argument("--json", help="one row of results a line")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    library = Library(args.build, args.threads)
    a, b, c = torch.randn(2048, 768), torch.randn(768, 768), torch.empty(2048, 768)
    rate = interleaved({"torch": Rate(lambda: torch.mm(a, b, out=c))}, 9)["torch"]
    rows = open(args.json or os.devnull, "a")
    report(rows, part="machine", threads=args.threads, torch=torch.__version__, python=platform.python_version(),
           ours=library.description, **{"gemm torch, GFLOP/s": 2 * 2048 * 768 * 768 / 1e6 / statistics.median(rate)})
    if "aurora" in args.parts or "muon" in args.parts:
        matrices(args, library, rows)
    for name, part in dict(optimum=optimum, carried=carried, adamw=adamw, group=threads).items():
        if name in args.parts:
            part(args, library, rows)


class Rate:
    def __init__(self, work):
        self.step = work


if __name__ == "__main__":
    main()
