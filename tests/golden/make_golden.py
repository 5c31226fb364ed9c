#!/usr/bin/env python3
"""Writes golden.txt and golden.f64: trajectories of all update rules and diagnostics in float64.

Independent of the C++ code: NumPy and SciPy only, every rule from its formula. Usage: python make_golden.py [folder]

golden.f64 holds float64 values, little-endian. golden.txt has one line per array: name, rows, columns and the position
of the first value; names are
  <shape>/start, <shape>/gradient/<step>, <shape>/momentum/<mu>       what all trajectories of a shape share
  <shape>/weight/<variant>, <shape>/state/<variant>                   after the last step
  diagnostics/<case>/<quantity>
"""

import sys
from pathlib import Path

import numpy as np
import scipy.linalg

STEPS = 4
SHAPES = [(24, 8), (8, 24), (16, 16), (33, 7)]
EXACT = "exact"
SCHEDULES = {
    "keller-jordan-5": (1.0, [(3.4445, -4.7750, 2.0315)] * 5),
    "simple-quintic-12": (1.0, [(2, -1.5, 0.5)] * 12),
    "cans-12": (
        1.0,
        [
            (5.18250, -5.17810, 0),
            (2.58612, -0.64795, 0),
            (2.56736, -0.64550, 0),
            (2.52056, -0.63935, 0),
            (2.41076, -0.62487, 0),
            (2.18833, -0.59520, 0),
            (1.85958, -0.55045, 0),
            (1.58902, -0.51266, 0),
            (1.50517, -0.50074, 0),
        ]
        + [(1.5, -0.5, 0)] * 3,
    ),
    "polar-express-5": (
        1.02,
        [
            (8.156554524902461, -22.48329292557795, 15.878769915207462),
            (4.042929935166739, -2.808917465908714, 0.5000178451051316),
            (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
            (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
            (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
        ],
    ),
}
POLAR_EXPRESS = [
    (8.2051, -22.9019, 16.4607),
    (4.0664, -2.8612, 0.5184),
    (3.9096, -2.8234, 0.5250),
    (3.2856, -2.4153, 0.4853),
    (2.2779, -1.6198, 0.3985),
    (1.8726, -1.2307, 0.3585),
    (1.8564, -1.2132, 0.3568),
    (1.875, -1.25, 0.375),
]
for count in (6, 7, 8):
    SCHEDULES[f"polar-express-{count}"] = (1.01, POLAR_EXPRESS[:count])


def polar(x, schedule=EXACT):
    """U V' of x = U S V', or a schedule applied to every singular value."""
    u, s, vt = scipy.linalg.svd(x, full_matrices=False)
    if schedule == EXACT:
        return u @ vt
    factor, steps = SCHEDULES[schedule]
    s = s / (factor * np.sqrt(np.sum(s * s)))
    for a, b, c in steps:
        s = a * s + b * s**3 + c * s**5
    return (u * s) @ vt


def muon(x, state, o):
    return polar(x, o["polar"]), state


def normuon(x, state, o):
    u = polar(x, o["polar"])
    state = o["beta2"] * state + (1 - o["beta2"]) * np.mean(u * u, axis=1, keepdims=True)
    scaled = u / np.sqrt(state)
    return scaled * (np.linalg.norm(u) / np.linalg.norm(scaled)), state


def u_normuon(x, state, o):
    u = polar(x, o["polar"])
    m, n = x.shape
    if m > n:
        u = u * (np.sqrt(n / m) / np.linalg.norm(u, axis=1, keepdims=True))
    return u, state


def row_normalized(x, state, o):
    m, n = x.shape
    return x * (np.sqrt(min(m, n) / m) / np.linalg.norm(x, axis=1, keepdims=True)), state


WITHOUT_POLAR = {"row-normalized"}
ALONE = 1 - 1e-6


def row_squares(u):
    return np.sum(u * u, axis=1, keepdims=True)


def spread(h):
    lengths = np.sqrt(h[(h > 0) & (h < ALONE)])
    return np.std(lengths) / np.mean(lengths) if lengths.size else 0.0


def moved(d, h, step):
    """d times step(h, mean h) in the rows that take part, then of length 1."""
    part = (d > 0) & (h > 0) & (h < ALONE)
    d = np.where(part, d * step(h, np.mean(h[part])), d)
    return d / np.linalg.norm(d)


def odds_step(h, r):
    return np.sqrt(r / (1 - r) * (1 - h) / h)


def tyler_step(h, r):
    return np.sqrt(r / h)


def odds_balance(x, d, evaluations, schedule):
    """The direction and the scales that made it."""
    before = None  # scales, leverage and spread before an odds step

    def worse(h):
        return before is not None and spread(h) > 1e-6 and spread(h) > 0.999 * before[2]

    for _ in range(evaluations - 1):
        h = row_squares(polar(d * x))
        if worse(h):
            d, before = moved(before[0], before[1], tyler_step), None
        else:
            d, before = moved(d, h, odds_step), (d, h, spread(h))
    u = polar(d * x, schedule)
    if worse(row_squares(u)):
        d = moved(before[0], before[1], tyler_step)
        u = polar(d * x, schedule)
    return u, d


def carried_balance(x, state, o):
    fresh = 1 / np.linalg.norm(x, axis=1, keepdims=True)
    if np.all(state == 0):
        u, d = odds_balance(x, fresh, o["pp_iterations"], o["polar"])
    else:
        known = state > 0
        g = np.exp(np.mean(np.log(state[known] / fresh[known])))
        near = (state <= 1000 * g * fresh) & (1000 * state >= g * fresh)
        d = np.where(near, state, g * fresh)
        u = polar(d * x, o["polar"])
    return u, moved(d, row_squares(u), tyler_step)


def optimum_balance(x, o):
    """U_i = x_i (S + lam_i I)^-1 with S in the basis of x's right singular vectors, then odds."""
    m, n = x.shape
    _, s, vt = scipy.linalg.svd(x, full_matrices=False)
    y, mean, lam = x @ vt.T, np.mean(s), np.zeros(m)
    s = s + 1e-12 * mean

    def newton(value, other, squares, target, floor):
        for _ in range(3):
            shift = value[:, None] + other[None, :]
            p, q = np.sum(squares / shift**2, axis=1), np.sum(squares / shift**3, axis=1)
            value = np.maximum(floor, value + p / q * (np.sqrt(p / target) - 1))
        return value

    for _ in range(4):
        lam = newton(lam, s, y * y, n / m, 1e-9 * mean - np.min(s))
        s = newton(s, lam, (y * y).T, 1.0, 1e-9 * mean - np.min(lam))
    w = (y / (s[None, :] + lam[:, None])) @ vt
    start = 1 / np.linalg.norm(w, axis=1, keepdims=True)
    return odds_balance(w, start, max(6, o["pp_iterations"]), o["polar"])[0]


def release_balance(x, o):
    m, n = x.shape
    d = 1 / np.linalg.norm(x, axis=1, keepdims=True)
    u = polar(d * x, o["polar"])
    for _ in range(o["pp_iterations"] - 1):
        d = d * ((n / m) / row_squares(u)) ** o["pp_beta"]
        u = polar(d * x, o["polar"])
    return u


def aurora(x, state, o):
    m, n = x.shape
    if m < n and o["sides"] == "longer":
        u, state = aurora(x.T, state, o)
        return u.T, state
    if m <= n:
        return polar(x, o["polar"]), state
    x = x / np.linalg.norm(x)
    if o["balance"] == "release":
        return release_balance(x, o), state
    if o["balance"] == "carried":
        return carried_balance(x, state, o)
    if o["balance"] == "optimum":
        return optimum_balance(x, o), state
    d = 1 / np.linalg.norm(x, axis=1, keepdims=True)
    return odds_balance(x, d, o["pp_iterations"], o["polar"])[0], state


def conjugate_gradients(matrix, b):
    """At most 20 steps from zero; ends early only where the residual is lost in rounding."""
    x = np.zeros_like(b)
    residual = b.copy()
    p = residual.copy()
    for _ in range(20):
        step = (residual @ residual) / (p @ matrix @ p)
        x = x + step * p
        previous = residual @ residual
        residual = residual - step * (matrix @ p)
        if np.linalg.norm(residual) <= 1e-15 * np.linalg.norm(b):
            break
        p = residual + (residual @ residual / previous) * p
    return x


def riemannian_aurora(x, state, o):
    m, n = x.shape
    u = polar(x, o["polar"])
    if m <= n:
        return u, state
    g = x / np.linalg.norm(x)
    r = n / m
    for _ in range(3):
        s = (u.T @ g + g.T @ u) / 2
        q = np.diag(g @ u.T) - np.diag(u @ s @ u.T)
        q = q - np.mean(q)
        p = u @ u.T
        h = np.diag(p)
        regular = max(0, np.max(h * h) - r + 1e-3)
        lam = conjugate_gradients((r + regular) * np.eye(m) - p * p, q)
        s = s - u.T @ (lam[:, None] * u)
        u = u + 0.1 * (g - u @ s - lam[:, None] * u)
        for _ in range(2):
            u = polar(np.sqrt(r) * u / np.linalg.norm(u, axis=1, keepdims=True), o["polar"])
    return u, state


RULES = {
    "muon": muon,
    "normuon": normuon,
    "u-normuon": u_normuon,
    "aurora": aurora,
    "riemannian-aurora": riemannian_aurora,
    "row-normalized": row_normalized,
}
PUBLISHED = {"normuon": "match_rms_adamw", "u-normuon": "none"}
MATRIX_DEFAULTS = {
    "lr": 0.02,
    "momentum": 0.95,
    "nesterov": True,
    "weight_decay": 0.025,
    "scale": "aspect_ratio",
    "polar": EXACT,
    "beta2": 0.95,
    "sides": "rows",
    "pp_iterations": 2,
    "pp_beta": 0.5,
    "balance": "odds",
}
ADAMW_DEFAULTS = {"lr": 3e-3, "beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "weight_decay": 0.0}


def scale_factor(scale, m, n):
    return {
        "aspect_ratio": np.sqrt(max(1, m / n)),
        "rms_to_rms": np.sqrt(m / n),
        "match_rms_adamw": 0.2 * np.sqrt(max(m, n)),
        "none": 1.0,
    }[scale]


def parse(variant):
    name, _, options = variant.partition(":")
    o = dict(ADAMW_DEFAULTS if name == "adamw" else MATRIX_DEFAULTS)
    for item in filter(None, options.split("+")):
        key, value = item.split("=")
        o[key] = type(o[key])(value) if not isinstance(o[key], bool) else value == "true"
    return name, o


def adamw_trajectory(o, w, gradients):
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(gradients, 1):
        m = o["beta1"] * m + (1 - o["beta1"]) * g
        v = o["beta2"] * v + (1 - o["beta2"]) * g * g
        w = (1 - o["lr"] * o["weight_decay"]) * w
        w = w - o["lr"] * (m / (1 - o["beta1"] ** t)) / (np.sqrt(v / (1 - o["beta2"] ** t)) + o["eps"])
    return w, v


def trajectory(variant, w, gradients):
    """The weight and the state beside the momentum after all gradients."""
    name, o = parse(variant)
    if name == "adamw":
        return adamw_trajectory(o, w, gradients)
    mu = o["momentum"]
    buffer = np.zeros_like(w)
    state = np.zeros((max(w.shape) if name == "aurora" else w.shape[0], 1))
    scale = PUBLISHED.get(name, "aspect_ratio") if o["scale"] == "published" else o["scale"]
    for g in gradients:
        buffer = mu * buffer + (1 - mu) * g
        blended = mu * buffer + (1 - mu) * g if o["nesterov"] else buffer
        u, state = RULES[name](blended, state, o)
        w = (1 - o["lr"] * o["weight_decay"]) * w - o["lr"] * scale_factor(scale, *w.shape) * u
    return w, state


def variants():
    yield from ("adamw", "adamw:lr=0.1+beta1=0.8+beta2=0.99+eps=0.001+weight_decay=0.5")
    for rule in RULES:
        for nesterov in ("true", "false"):
            yield f"{rule}:lr=0.1+nesterov={nesterov}"
        yield f"{rule}:lr=0.3+momentum=0.5+weight_decay=0.7"
        for scale in ("rms_to_rms", "match_rms_adamw", "none", "published"):
            yield f"{rule}:lr=0.1+scale={scale}"
        for schedule in () if rule in WITHOUT_POLAR else SCHEDULES:
            yield f"{rule}:lr=0.1+polar={schedule}"
    yield "normuon:lr=0.1+beta2=0.5"
    for sides in ("rows", "longer"):
        for iterations in (1, 2, 3, 4):
            for beta in ("0.25", "0.5"):
                yield f"aurora:lr=0.1+balance=release+sides={sides}+pp_iterations={iterations}+pp_beta={beta}"
        for balance in ("odds", "carried", "optimum"):
            for iterations in (1, 2, 3, 7):
                yield f"aurora:lr=0.1+balance={balance}+sides={sides}+pp_iterations={iterations}"
    for schedule in ("simple-quintic-12", "cans-12"):
        yield f"aurora:lr=0.05+balance=release+nesterov=false+sides=longer+polar={schedule}"
        yield f"aurora:lr=0.05+balance=release+sides=longer+pp_iterations=3+pp_beta=0.25+polar={schedule}"


def gradient(random, m, n):
    """Condition number about 10, rows of unequal length."""
    k = min(m, n)
    u, _ = np.linalg.qr(random.standard_normal((m, k)))
    v, _ = np.linalg.qr(random.standard_normal((n, k)))
    x = (u * np.geomspace(1, 0.2, k)) @ v.T
    return x * np.exp(0.5 * random.standard_normal((m, 1)))


def effective_rank(x):
    p = scipy.linalg.svdvals(x) ** 2
    p = p[p > 0] / np.sum(p)
    return np.exp(-np.sum(p * np.log(p)))


def diagnostics(random):
    for m, n in ((24, 8), (8, 24), (9, 9)):
        x = gradient(random, m, n) * 3
        case = f"diagnostics/{m}x{n}"
        norms = np.linalg.norm(x, axis=1)
        k = min(m, n)
        defect = (x.T @ x if m >= n else x @ x.T) - np.eye(k)
        leverage = polar(x) ** 2
        yield f"{case}/matrix", x
        yield f"{case}/leverage_rows", leverage.sum(axis=1)
        yield f"{case}/leverage_columns", leverage.sum(axis=0)
        yield f"{case}/row_norms", norms
        yield f"{case}/row_norm_cv", norms.std() / norms.mean()
        yield f"{case}/orthogonality_error", [np.max(np.abs(defect)), np.linalg.norm(defect) / np.sqrt(k)]
        yield f"{case}/effective_rank", effective_rank(x)
        yield f"{case}/quantiles", np.quantile(norms, [0, 0.01, 0.1, 0.5, 0.9, 0.99, 1])


def arrays():
    random = np.random.default_rng(20260101)
    for m, n in SHAPES:
        shape = f"{m}x{n}"
        start = 0.1 * random.standard_normal((m, n))
        gradients = [gradient(random, m, n) for _ in range(STEPS)]
        yield f"{shape}/start", start
        for step, g in enumerate(gradients, 1):
            yield f"{shape}/gradient/{step}", g
        for mu in (0.95, 0.5):
            buffer = 0
            for g in gradients:
                buffer = mu * buffer + (1 - mu) * g
            yield f"{shape}/momentum/{mu}", buffer
        for variant in variants():
            weight, state = trajectory(variant, start, gradients)
            yield f"{shape}/weight/{variant}", weight
            if variant.startswith(("normuon", "adamw")) or "carried" in variant:
                yield f"{shape}/state/{variant}", state
    yield from diagnostics(random)


def main():
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    position = 0
    with open(folder / "golden.txt", "w") as index, open(folder / "golden.f64", "wb") as values:
        for name, value in arrays():
            value = np.asarray(value, dtype="<f8")
            rows, columns = (*value.shape, 1, 1)[:2] if value.ndim else (1, 1)
            index.write(f"{name} {rows} {columns} {position}\n")
            values.write(value.tobytes())
            position += value.size


if __name__ == "__main__":
    main()
