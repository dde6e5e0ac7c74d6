"""The theorems a second time: bounds and what they bound in plain mpmath, from the definitions.

Nothing is imported from the project. `FORMULAS` holds every expression of the registry, typed again
from the statements; `OBSERVED` computes logits, rows and rotations themselves and compares.
"""

from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import pairwise, permutations
from random import Random
from typing import NamedTuple

from mpmath import mp, mpc, mpf

DIGITS = 60
mp.dps = DIGITS

Values = dict[str, mpf | mpc]


class Draw(Random):
    """Random numbers that are exact: fractions with small denominators."""

    def fraction(self, low=0, high=2) -> Fraction:
        """A fraction from low to high, neither end included."""
        parts = 2 * self.randint(5, 40) + 1
        return low + (high - low) * Fraction(self.randint(1, parts - 1), parts)

    def number(self, low=0, high=2) -> mpf:
        return number(self.fraction(low, high))

    def complex(self) -> mpc:
        return mpc(self.number(-1, 1), self.number(-1, 1))

    def vector(self, length: int) -> list[mpc]:
        return [self.complex() for _ in range(length)]

    def moved(self, vector, size=1) -> list[mpc]:
        return [entry + size * self.complex() for entry in vector]


def number(fraction) -> mpf:
    return mpf(fraction.numerator) / fraction.denominator


# Bounds -----------------------------------------------------------------------------------------


def drifts(v):
    return v["lambda"] * (
        abs(v["z_s"] - v["z"]) * abs(v["w_u"]) + abs(v["z"]) * abs(v["w_u"] - v["w"])
    )


def turned(v, angle):
    """lambda |e^{i angle} - 1||z||w|."""
    return v["lambda"] * abs(mp.expj(angle) - 1) * abs(v["z"]) * abs(v["w"])


def shifted(s, u, theta="theta"):
    """(B) at the shift (s, u); a name stands for its value."""

    def bound(v):
        by_query, by_key = (v[part] if isinstance(part, str) else part for part in (s, u))
        return drifts(v) + turned(v, (by_query - by_key) * v[theta])

    return bound


def best_order(v):
    """Query, key and turn change one after the other, in the order that costs least."""
    turn = abs(mp.expj((v["s"] - v["u"]) * v["theta"]) - 1)
    costs = []
    for order in permutations(("query", "key", "turn")):
        query, key, cost = v["z"], v["w"], mpf(0)
        for part in order:
            if part == "query":
                cost += abs(v["z_s"] - query) * abs(key)
                query = v["z_s"]
            elif part == "key":
                cost += abs(query) * abs(v["w_u"] - key)
                key = v["w_u"]
            else:
                cost += turn * abs(query) * abs(key)
        costs.append(v["lambda"] * cost)
    return min(costs)


def modulus_squared(v):
    old, new = abs(v["z"] * v["w"]), abs(v["z_s"] * v["w_u"])
    angle = (v["s"] - v["u"]) * v["theta"] + v["psi"]
    return old**2 + new**2 - 2 * old * new * mp.cos(angle)


def from_similarity(v):
    """||q' - q||^2 by the law of cosines."""
    r, later = v["query_norm"], v["query_norm_s"]
    return r**2 + later**2 - 2 * r * later * v["similarity"]


def slope(v):
    return v["lambda"] * v["sigma"] / mp.sqrt(v["n"])


def arcsine(x):
    """Raises ValueError outside of [-1, 1], where mpmath answers with a complex number."""
    if abs(x) > 1:
        raise ValueError(f"no arcsine of {x}")
    return mp.asin(x)


def supremum(v):
    query, key = v["query_norm_max"], v["key_norm_max"]
    half = [
        arcsine(min(mpf(1), step / (2 * norm)))
        for step, norm in ((v["query_step"], query), (v["key_step"], key))
    ]
    return 2 * v["lambda"] * query * key * (1 if sum(half) > mp.pi / 2 else mp.sin(sum(half)))


def kappa(v):
    return v["energy"] * v["theta"] / v["energy_*"] / v["theta_*"]


def rho(v):
    return v["theta"] / v["theta_*"]


def excess(omega, gained, lost):
    """In three cases."""
    kept, kept_before, r = 1 - gained, 1 - lost, mp.exp(omega)
    ratio = mp.sqrt(kept * r / kept_before)
    if ratio <= 1:
        return mpf(0)
    return kept_before * (ratio - 1) ** 2 / (r - 1) if ratio <= r else kept - kept_before


def odds_grown(mass, omega):
    return mass * mp.exp(omega) / (1 - mass + mass * mp.exp(omega))


def later(v, omega=None):
    return odds_grown(v["mass"], v["omega"] if omega is None else omega)


def largest_divergence(omega):
    mean = mp.expm1(omega) / omega
    return mp.log(mean) + 1 / mean - 1


def after_rope(z, z_s, angle):
    return abs(z_s * mp.expj(angle) - z)


def query_change(v):
    return mp.expj((v["s"] - v["u"]) * v["theta"]) * v["z_s"] - v["z"]


def real_product(a, b):
    return (a * b.conjugate()).real


def change(v):
    turn = mp.expj((v["t"] - v["i"]) * v["theta"])
    return v["lambda"] * real_product(turn * query_change(v), v["w"])


def key_change(v):
    place = v["t"] + v["s"] - v["i"] - v["u"]
    return v["lambda"] * real_product(mp.expj(place * v["theta"]) * v["z_s"], v["w_u"] - v["w"])


def margin(v):
    query = v["z"] * mp.expj(v["t"] * v["theta"])
    keys = v["w"] * mp.expj(v["i"] * v["theta"]), v["w_u"] * mp.expj((v["i"] + v["u"]) * v["theta"])
    return v["lambda"] * (real_product(query, keys[0]) - real_product(query, keys[1]))


def margin_change(v):
    moves = after_rope(v["z"], v["z_s"], v["s"] * v["theta"])
    return v["lambda"] * moves * after_rope(v["w"], v["w_u"], v["u"] * v["theta"])


def by_steps(v):
    distance = after_rope(v["w"], v["w_u"], v["u"] * v["theta"])
    return v["lambda"] * v["s"] * v["step_after"] * distance


def new_key(v):
    move = after_rope(v["z"], v["z_s"], v["s"] * v["theta"])
    return v["lambda"] * (abs(v["z_s"] * v["w_u"]) + move * abs(v["w"]))


def angle_error(v):
    return v["p"] * v["theta"] * (v["frequency_error"] + v["u_angle"] * (1 + v["frequency_error"]))


def table_error(v):
    return (2 * v["trig_error"] + v["u_table"]) / mp.sqrt(2)


def table_error_scaled(v):
    off = mp.sqrt(2) * v["trig_error"]
    return off + v["u_table"] + v["u_table"] * off


def arithmetic(v):
    return 4 * v["u"] * (1 + v["u"]) / mp.sqrt(3)


def arithmetic_fused(v):
    return (1 + v["u"]) ** 2 - 1


def relative_error(v, rounding=arithmetic):
    return angle_error(v) + table_error(v) + (1 + table_error(v)) * rounding(v)


def channel_error(v, rounding=arithmetic):
    underflow = mp.sqrt(8) * v["tiny"] * (1 + v["u"])
    return abs(v["z"]) * relative_error(v, rounding) + underflow


def invariance_loss(v):
    grown = (1 + v["error_q"]) * (1 + v["error_k"]) + (1 + v["error_q_s"]) * (1 + v["error_k_s"])
    return v["lambda"] * abs(v["z"] * v["w"]) * (grown - 2)


FORMULAS: dict[str, dict[str, Callable[[Values], mpf]]] = {
    "shift_bound": {
        "bound": shifted("s", "u"),
        "tighter": best_order,
        "modulus_squared": modulus_squared,
    },
    "proposition_4_1": {
        "bound": lambda v: v["lambda"] * v["key_norm_max"] * v["step"],
        "lower": lambda v: slope(v) * v["step"],
        "turned_squared": lambda v: after_rope(v["z"], v["z"], v["theta"]) ** 2,
        "lower_before": lambda v: slope(v) * (v["step_before"] - v["turned"]),
        "upper_before": lambda v: (
            v["lambda"] * v["key_norm_max"] * (v["step_before"] + v["turned"])
        ),
        "oscillation_lower": lambda v: (
            v["lambda"] * v["sigma_centred"] * 2 * v["step"] / mp.sqrt(v["n"])
        ),
        "oscillation_upper": lambda v: v["lambda"] * v["diameter"] * v["step"],
        "step_squared": from_similarity,
        "sufficient": lambda v: v["lambda"] * v["key_norm_max"] * mp.sqrt(from_similarity(v)),
        "necessary": lambda v: (
            ((v["change_max"] / slope(v)) ** 2 - (v["query_norm_s"] - v["query_norm"]) ** 2)
            / (2 * v["query_norm"] * v["query_norm_s"])
        ),
    },
    "re_access": {
        "bound": shifted(1, 0),
        "several_steps": shifted("tau", 0),
        "published": lambda v: max(
            abs(v["z_s"] - v["z"]) / abs(v["z"]), abs(v["z_s"] - v["z"]) / abs(v["z_s"])
        ),
        "arc": lambda v: 2 * arcsine(min(mpf(1), abs(v["z_s"] - v["z"]) / v["radius"] / 2)),
        "arc_linear": lambda v: mp.pi * abs(v["z_s"] - v["z"]) / (2 * v["radius"]),
        "arc_exact": lambda v: abs(mp.arg(v["z_s"] / v["z"])),
        "arc_one_norm": lambda v: arcsine(abs(v["z_s"] - v["z"]) / v["radius"]),
        "arc_one_norm_linear": lambda v: mp.pi * abs(v["z_s"] - v["z"]) / v["radius"],
        "gap": lambda v: v["key_bound"] + v["rival_bound"],
        "gap_together": lambda v: (
            v["lambda"] * after_rope(v["z"], v["z_s"], v["tau"] * v["theta"]) * v["key_distance"]
        ),
    },
    "sequential": {
        "bound": shifted(1, 1),
        "several_steps": shifted("s", "s"),
        "published": lambda v: (
            v["lambda"] * (v["key_norm_u"] + v["query_norm"]) * max(v["query_step"], v["key_step"])
        ),
        "constant": lambda v: v["lambda"] * v["key_norm_u"] + v["lambda"] * v["query_norm"],
        "global_constant": lambda v: v["lambda"] * (v["query_norm_max"] + v["key_norm_max"]),
        "supremum": supremum,
    },
    "periodic_sequential": {
        "bound": shifted(0, "N"),
        "published": shifted(0, "N", "theta_*"),
        "period": lambda v: 2 * mp.pi / v["theta_*"],
        "slow_rotation": lambda v: v["minor"] * turned(v, v["theta"]),
        "neighbour_drift": lambda v: v["lambda"] * abs(v["z"]) * abs(v["w_u"] - v["w"]),
        "dominant_rotation": lambda v: (
            v["major"] * v["lambda"] * 2 * mp.sin(v["theta"] / 2) * abs(v["z"] * v["w"])
        ),
        "kappa_j": lambda v: max(
            (v["slow"] + v["drift_next"]) / v["dominant"],
            (v["slow"] + v["drift_before"]) / v["dominant"],
        ),
        "slope": kappa,
        "curvature": lambda v: kappa(v) * rho(v),
        "condition": lambda v: abs(kappa(v) * mpc(mp.cos(v["v"]), rho(v) * mp.sin(v["v"]))),
        "squares": lambda v: abs(mpc(v["kappa"], v["R"])) ** 2,
        "displacement": lambda v: arcsine(v["kappa"]) / v["theta_*"],
        "spacing": lambda v: 2 * arcsine(v["kappa"]) / v["theta_*"],
        "crest": lambda v: arcsine(v["kappa"]) + v["theta_*"] / 2,
        "trough": lambda v: arcsine(v["kappa"]) - v["theta_*"] / 2,
    },
    "seasonal": {
        "bound": shifted("L", 0),
        "published": shifted("L", 0, "theta_*"),
        "later_key": shifted(0, "L"),
        "both_later": shifted("L", "L"),
        "worst_channel": lambda v: drifts(v) + v["lambda"] * v["delta"] * abs(v["z"] * v["w"]),
        "drift_constant": lambda v: v["lambda"] * max(v["key_norm_u"], v["query_norm"]),
        "resonance_constant": lambda v: v["lambda"] * v["energy_sum"],
        "repaired": lambda v: (
            v["lambda"]
            * (
                max(v["key_norm_u"], v["query_norm"]) * (v["query_step"] + v["key_step"])
                + v["energy_sum"] * v["delta"]
            )
        ),
    },
    "attention_distance": {
        "bound": lambda v: v["gained"] + excess(v["omega"], v["gained"], v["lost"]),
        "excess": lambda v: excess(v["omega"], v["gained"], v["lost"]),
        "same_keys": lambda v: mp.tanh(v["omega"] / 4),
        "appended": lambda v: v["gained"] + excess(v["omega"], v["gained"], mpf(0)),
        "mass_later": later,
        "oscillation": lambda v: v["bound_max"] + v["bound_max"],
        "column_oscillation": lambda v: (
            v["lambda"] * after_rope(v["z"], v["z_s"], v["s"] * v["theta"]) * v["key_distance"]
        ),
        "only_gaining": lambda v: v["gained"] + excess(2 * v["bound_max"], v["gained"], mpf(0)),
        "gaining_and_losing": lambda v: (
            v["gained"] + excess(2 * v["bound_max"], v["gained"], v["lost"])
        ),
        "same_keys_from_bound": lambda v: mp.tanh(v["bound_max"] / 2),
    },
    "kv_reuse": {
        "bound": lambda v: later(v) * v["value_distance"],
        "mass_later": later,
        "mass_in_row": lambda v: (1 - v["gained"]) * later(v),
        "mass_later_from_bound": lambda v: later(v, 2 * v["bound_max"]),
        "output_error_from_bound": lambda v: later(v, 2 * v["bound_max"]) * v["value_distance"],
    },
    "query_drift": {
        "bound": lambda v: v["omega"] ** 3 / mp.sqrt(3888),
        "divergence": lambda v: mp.log(v["exponential"]),
        "key_metric": lambda v: v["variance"] / 2,
        "mean_term": lambda v: v["P"] * v["D"],
        "exponential_term": lambda v: v["P"] * mp.exp(v["D"]) / mp.exp(v["mean"]),
        "square_term": lambda v: v["P"] * (v["D"] - v["mean"]) ** 2,
        "covariance_term": lambda v: v["P"] * (v["k_a"] - v["mean_a"]) * (v["k_b"] - v["mean_b"]),
        "metric_term": lambda v: v["lambda"] ** 2 * v["dq_a"] * v["covariance"] * v["dq_b"],
        "quadratic": lambda v: (v["omega"] / 2) ** 2 / 2,
        "largest": lambda v: largest_divergence(v["omega"]),
        "lower": lambda v: v["variance"] * (mp.expm1(-v["omega"]) / v["omega"] + 1) / v["omega"],
        "upper": lambda v: v["variance"] * (mp.expm1(v["omega"]) / v["omega"] - 1) / v["omega"],
        "reverse_error": lambda v: v["omega"] ** 3 / mp.sqrt(972),
        "reverse_lower": lambda v: (
            -v["variance"] * (mp.expm1(-v["omega"]) / v["omega"] + mp.exp(-v["omega"])) / v["omega"]
        ),
        "reverse_upper": lambda v: (
            v["variance"] * (mp.exp(v["omega"]) - mp.expm1(v["omega"]) / v["omega"]) / v["omega"]
        ),
    },
    "typical_case": {
        "bound": lambda v: v["mean_square"] / v["x"] / v["x"],
        "query_term": lambda v: v["dq_a"] * v["dq_b"],
        "key_term": lambda v: v["k_a"] * v["k_b"],
        "rectangle_term": lambda v: v["lambda"] ** 2 * v["m_q"] * v["m_k"],
        "row_term": lambda v: v["lambda"] ** 2 * v["dq_a"] * v["m_k"] * v["dq_b"],
        "masked_term": lambda v: v["N"] * v["mean_square_t"],
    },
    "similarity_direction": {
        "bound": lambda v: v["lambda"] * v["key_norm"] * mp.sqrt(from_similarity(v)),
        "drift": query_change,
        "change": change,
        "key_change": key_change,
        "product": lambda v: real_product(
            mp.expj((v["s"] - v["u"]) * v["theta"]) * v["z_s"], v["z"]
        ),
        "step_squared": from_similarity,
        "with_key_step": lambda v: (
            v["lambda"]
            * (v["key_norm"] * mp.sqrt(from_similarity(v)) + v["query_norm_s"] * v["key_step"])
        ),
    },
    "lifetime": {
        "bound": margin_change,
        "margin": margin,
        "by_norms": lambda v: v["lambda"] * v["query_move"] * v["key_distance"],
        "by_angle": lambda v: arcsine(
            min(mpf(1), v["lead"] / v["lambda"] / v["query_norm"] / v["key_distance"])
        ),
        "by_steps": by_steps,
        "step": lambda v: v["step_before"] + after_rope(v["z"], v["z"], v["theta"]),
        "new_key": new_key,
        "oscillation": lambda v: v["bound_max"] * 2,
    },
    "rotation_precision": {
        "bound": channel_error,
        "angle_error": angle_error,
        "table_error": table_error,
        "table_error_scaled": table_error_scaled,
        "angle_deviation": lambda v: angle_error(v) + arcsine(table_error(v)),
        "angle_deviation_scaled": lambda v: angle_error(v) + arcsine(table_error_scaled(v)),
        "turn_error": lambda v: angle_error(v) + table_error(v),
        "arithmetic": arithmetic,
        "arithmetic_fused": arithmetic_fused,
        "channel_error_fused": lambda v: channel_error(v, arithmetic_fused),
        "relative_error": relative_error,
        "relative_error_fused": lambda v: relative_error(v, arithmetic_fused),
        "invariance_loss": invariance_loss,
        "crossover": lambda v: v["u_table"] / v["u_angle"] / mp.sqrt(2),
    },
}
"""theorem -> name of the expression -> its value; "published" is the published reading."""

# What they bound --------------------------------------------------------------------------------


class Compared(NamedTuple):
    """observed <= allowed, or observed = allowed."""

    name: str
    observed: mpf
    relation: str
    allowed: mpf


def rotated(vector, position, thetas):
    """RoPE of real pairs (x, y)."""
    found = []
    for entry, theta in zip(vector, thetas, strict=True):
        c, s = mp.cos(position * theta), mp.sin(position * theta)
        found.append((c * entry.real - s * entry.imag, s * entry.real + c * entry.imag))
    return found


def inner(a, b):
    return sum((x * p + y * q for (x, y), (p, q) in zip(a, b, strict=True)), mpf(0))


def norm(vector):
    return mp.sqrt(sum((abs(entry) ** 2 for entry in vector), mpf(0)))


def apart(a, b):
    """Distance of two vectors of real pairs."""
    return mp.sqrt(
        sum(((x - p) ** 2 + (y - q) ** 2 for (x, y), (p, q) in zip(a, b, strict=True)), mpf(0))
    )


def minus(a, b):
    return [x - y for x, y in zip(a, b, strict=True)]


class Head:
    """One head: its frequencies and scale, and logits from the definition."""

    def __init__(self, draw: Draw, channels: int | None = None) -> None:
        self.channels = channels or draw.randint(1, 3)
        self.scale = draw.number(0, 1)
        if draw.random() < 0.5:
            self.thetas = [draw.number(0, 3) for _ in range(self.channels)]
        else:
            self.thetas = [mpf(10_000) ** (-mpf(m) / self.channels) for m in range(self.channels)]

    def logit(self, query, key, t, i):
        return self.scale * inner(rotated(query, t, self.thetas), rotated(key, i, self.thetas))

    def total(self, formula, **values):
        """The sum of a formula over the channels; lists are of channels."""
        found = mpf(0)
        for m, theta in enumerate(self.thetas):
            here = {k: x[m] if isinstance(x, list) else x for k, x in values.items()}
            found += formula({"lambda": self.scale, "theta": theta, **here})
        return found


def shift_pairs(draw, theorem_id, names, s, u, **more):
    """|a_{t+s,i+u} - a_{t,i}| against sums over channels of formulas."""
    head = Head(draw)
    z, w = draw.vector(head.channels), draw.vector(head.channels)
    z_s = z if s == 0 else draw.moved(z, draw.number(0, 1))
    w_u = w if u == 0 else draw.moved(w, draw.number(0, 1))
    t, i = draw.randint(20, 40), draw.randint(0, 10)
    observed = abs(head.logit(z_s, w_u, t + s, i + u) - head.logit(z, w, t, i))
    for name in names:
        allowed = head.total(
            FORMULAS[theorem_id][name], z=z, z_s=z_s, w=w, w_u=w_u, **({"s": s, "u": u} | more)
        )
        yield Compared(name, observed, "<=", allowed)


def seen_shift_bound(draw):
    s, u = draw.randint(-5, 5), draw.randint(0, 5)
    yield from shift_pairs(draw, "shift_bound", ("bound", "tighter"), s, u)
    z, z_s, w, w_u = draw.vector(4)
    theta = draw.number(0, 3)
    new, old = mp.expj((s - u) * theta) * z_s * w_u.conjugate(), z * w.conjugate()
    values = {"z": z, "z_s": z_s, "w": w, "w_u": w_u, "theta": theta, "s": mpf(s), "u": mpf(u)}
    values["psi"] = mp.arg(z_s * w_u.conjugate()) - mp.arg(old)
    yield Compared("modulus_squared", abs(new - old) ** 2, "=", modulus_squared(values))


def singular(rows):
    """Singular values of a matrix that are not 0, and the projector on the span of its rows."""
    matrix = mp.matrix(rows)
    _, values, right = mp.svd_r(matrix)
    kept = [k for k in range(len(values)) if values[k] > mpf(10) ** -30]
    projector = mp.zeros(matrix.cols)
    for k in kept:
        projector += right[k, :].T * right[k, :]
    return [values[k] for k in kept], projector


def flat(pairs):
    return [part for pair in pairs for part in pair]


def seen_proposition_4_1(draw):
    formulas = FORMULAS["proposition_4_1"]
    head = Head(draw, draw.randint(1, 2))
    n, t = draw.randint(1, 6), 9
    keys = [draw.vector(head.channels) for _ in range(n)]
    if n > 2:
        keys[1] = keys[0]
    turned_keys = [flat(rotated(key, i, head.thetas)) for i, key in enumerate(keys)]
    z = draw.vector(head.channels)
    z_s = draw.moved(z)
    before, after = rotated(z, t, head.thetas), rotated(z_s, t + 1, head.thetas)
    dq = mp.matrix(minus(flat(after), flat(before)))
    changes = [
        head.logit(z_s, key, t + 1, i) - head.logit(z, key, t, i) for i, key in enumerate(keys)
    ]
    values, projector = singular(turned_keys)
    mean = [sum(column) / n for column in zip(*turned_keys, strict=True)]
    v = {"lambda": head.scale, "n": mpf(n), "sigma": min(values)}
    v["step"] = norm(projector * dq)
    v["key_norm_max"] = max(map(norm, turned_keys))
    v["step_before"], v["query_norm"] = norm(minus(z_s, z)), norm(z)
    v["query_norm_s"], v["change_max"] = norm(z_s), max(map(abs, changes))
    v["turned"] = mp.sqrt(head.total(formulas["turned_squared"], z=z))
    back = rotated(z, t + 1, head.thetas)
    yield Compared("turned_squared", apart(back, before), "=", v["turned"])
    yield Compared("bound", v["change_max"], "<=", formulas["bound"](v))
    yield Compared("lower", formulas["lower"](v), "<=", v["change_max"])
    yield Compared("upper_before", v["change_max"], "<=", formulas["upper_before"](v))
    v["similarity"] = inner(after, before) / v["query_norm"] / v["query_norm_s"]
    yield Compared("step_squared", apart(after, before) ** 2, "=", formulas["step_squared"](v))
    yield Compared("sufficient", v["change_max"], "<=", formulas["sufficient"](v))
    if len(values) == 2 * head.channels:
        yield Compared("lower_before", formulas["lower_before"](v), "<=", v["change_max"])
        yield Compared("necessary", 1 - v["similarity"], "<=", formulas["necessary"](v))
    centred, onto = singular([minus(row, mean) for row in turned_keys])
    if centred:
        v |= {"sigma_centred": min(centred), "step": norm(onto * dq)}
        v["diameter"] = max(norm(minus(a, b)) for a in turned_keys for b in turned_keys)
        swing = max(changes) - min(changes)
        yield Compared("oscillation_upper", swing, "<=", formulas["oscillation_upper"](v))
        yield Compared("oscillation_lower", formulas["oscillation_lower"](v), "<=", swing)


def seen_re_access(draw):
    formulas = FORMULAS["re_access"]
    yield from shift_pairs(draw, "re_access", ("bound",), 1, 0)
    tau = draw.randint(1, 9)
    yield from shift_pairs(draw, "re_access", ("several_steps",), tau, 0, tau=tau)
    z = draw.complex()
    z_s = z + draw.number(0, 1) * draw.complex()
    turn = abs(mp.arg(z_s / z))
    v = {"z": z, "z_s": z_s, "radius": min(abs(z), abs(z_s)) * draw.number(0, 1)}
    for name in ("arc", "arc_linear", "arc_one_norm_linear"):
        yield Compared(name, turn, "<=", formulas[name](v))
    yield Compared("arc_exact", turn, "=", formulas["arc_exact"](v))
    v["radius"] = abs(z) * draw.number(0, 1)
    yield Compared("arc_one_norm_linear", turn, "<=", formulas["arc_one_norm_linear"](v))
    if abs(z_s - z) <= v["radius"]:
        yield Compared("arc_one_norm", turn, "<=", formulas["arc_one_norm"](v))
    head, t, i, j = Head(draw), 20, draw.randint(0, 8), draw.randint(9, 15)
    query, key, rival = (draw.vector(head.channels) for _ in range(3))
    later_query = draw.moved(query, draw.number(0, 1))
    leads = [
        head.logit(q, key, place, i) - head.logit(q, rival, place, j)
        for q, place in ((query, t), (later_query, t + tau))
    ]
    bounds = [
        head.total(formulas["several_steps"], z=query, z_s=later_query, w=k, w_u=k, tau=tau)
        for k in (key, rival)
    ]
    gap = formulas["gap"]({"key_bound": bounds[0], "rival_bound": bounds[1]})
    yield Compared("gap", leads[0] - leads[1], "<=", gap)
    distance = [
        abs(mp.expj(i * theta) * a - mp.expj(j * theta) * b)
        for theta, a, b in zip(head.thetas, key, rival, strict=True)
    ]
    together = head.total(
        formulas["gap_together"], z=query, z_s=later_query, tau=tau, key_distance=distance
    )
    yield Compared("gap_together", leads[0] - leads[1], "<=", together)
    yield Compared("gap_together below gap", together, "<=", gap)


def seen_sequential(draw):
    formulas = FORMULAS["sequential"]
    yield from shift_pairs(draw, "sequential", ("bound",), 1, 1)
    s = draw.randint(1, 9)
    yield from shift_pairs(draw, "sequential", ("several_steps",), s, s)
    head = Head(draw)
    z, w = draw.vector(head.channels), draw.vector(head.channels)
    size = draw.number(0, draw.choice((2, Fraction(1, 50))))
    z_s, w_u = draw.moved(z, size), draw.moved(w, size)
    observed = abs(head.logit(z_s, w_u, 8, 4) - head.logit(z, w, 7, 3))
    v = {"lambda": head.scale, "query_norm": norm(z), "key_norm_u": norm(w_u)}
    v |= {"query_step": norm(minus(z_s, z)), "key_step": norm(minus(w_u, w))}
    v["query_norm_max"], v["key_norm_max"] = max(norm(z), norm(z_s)), max(norm(w), norm(w_u))
    yield Compared("published", observed, "<=", formulas["published"](v))
    epsilon = max(v["query_step"], v["key_step"])
    yield Compared("constant", observed, "<=", formulas["constant"](v) * epsilon)
    yield Compared("global_constant", observed, "<=", formulas["global_constant"](v) * epsilon)
    yield Compared("supremum", observed, "<=", formulas["supremum"](v))


def row_maximum(head, energies, phases, crest):
    """The local maximum of sum of A cos(theta x + phi) nearest to a crest of channel 0."""

    def slope_at(x):
        terms = zip(energies, head.thetas, phases, strict=True)
        return sum((-a * theta * mp.sin(theta * x + phi) for a, theta, phi in terms), mpf(0))

    start = (2 * mp.pi * crest - phases[0]) / head.thetas[0]
    low, high = (start + end * mp.pi / 2 / head.thetas[0] for end in (-1, 1))
    for _ in range(220):  # halved down to the last digit
        middle = (low + high) / 2
        low, high = (middle, high) if slope_at(middle) > 0 else (low, middle)
    return (low + high) / 2, start


def seen_periodic_sequential(draw):
    formulas = FORMULAS["periodic_sequential"]
    n = draw.randint(1, 9)
    yield from shift_pairs(draw, "periodic_sequential", ("bound",), 0, n, N=n)
    head = Head(draw, 3)
    head.thetas = [draw.number(Fraction(1, 5), 1) for _ in range(3)]
    dominant = head.thetas[0]
    energies = [mpf(1), draw.number(0, Fraction(1, 5)), draw.number(0, Fraction(1, 5))]
    phases = [draw.number(-3, 3) for _ in range(3)]
    v = {"theta_*": dominant, "energy_*": mpf(1), "kappa": mpf(0), "R": mpf(0)}
    for energy, theta in zip(energies[1:], head.thetas[1:], strict=True):
        here = v | {"energy": energy, "theta": theta}
        v["kappa"] += formulas["slope"](here)
        v["R"] += formulas["curvature"](here)
    if formulas["squares"](v) < 1:
        for direction in (mpf(0), draw.number(0, 2), draw.number(0, 2)):
            total = sum(
                formulas["condition"](v | {"energy": e, "theta": theta, "v": direction})
                for e, theta in zip(energies[1:], head.thetas[1:], strict=True)
            )
            yield Compared("condition", total, "<=", mpf(1))
        (first, crest), (second, _) = (row_maximum(head, energies, phases, k) for k in (0, 1))
        yield Compared("displacement", abs(first - crest), "<=", formulas["displacement"](v))
        off = abs(second - first - formulas["period"](v))
        yield Compared("spacing", off, "<=", formulas["spacing"](v))
    yield from _whole_distances(draw)


def _whole_distances(draw):
    """Phase of the dominant channel at local maxima of a row whose keys drift."""
    formulas = FORMULAS["periodic_sequential"]
    head = Head(draw, 2)
    head.thetas = [draw.number(Fraction(1, 5), 1), draw.number(0, 3)]
    query = [draw.complex() + 1, draw.number(0, Fraction(1, 10)) * draw.complex()]
    key = [draw.complex() + 1, draw.complex()]
    keys = [draw.moved(key, draw.number(0, Fraction(1, 50))) for _ in range(24)]
    t = len(keys)
    logits = [head.logit(query, k, t, t - distance) for distance, k in enumerate(keys)]
    for j in range(1, len(keys) - 1):
        if logits[j] < max(logits[j - 1], logits[j + 1]):
            continue
        w = keys[j]
        minor, major = [mpf(0), mpf(1)], [mpf(1), mpf(0)]
        v = {"slow": head.total(formulas["slow_rotation"], z=query, w=w, minor=minor)}
        v["dominant"] = head.total(formulas["dominant_rotation"], z=query, w=w, major=major)
        for name, other in (("drift_next", keys[j + 1]), ("drift_before", keys[j - 1])):
            v[name] = head.total(formulas["neighbour_drift"], z=query, w=w, w_u=other)
        share = formulas["kappa_j"](v)
        if share >= 1:
            continue
        limits = {"kappa": share, "theta_*": head.thetas[0]}
        turned_by = mp.expj(j * head.thetas[0]) * query[0] * w[0].conjugate()
        from_crest = abs(mp.arg(turned_by))
        from_trough, near = mp.pi - from_crest, formulas["trough"](limits)
        if from_trough <= near:
            yield Compared("trough", from_trough, "<=", near)
        else:
            yield Compared("crest", from_crest, "<=", formulas["crest"](limits))


def seen_seasonal(draw):
    formulas = FORMULAS["seasonal"]
    period = draw.randint(1, 9)
    for name, s, u in (
        ("bound", period, 0),
        ("later_key", 0, period),
        ("both_later", period, period),
    ):
        yield from shift_pairs(draw, "seasonal", (name,), s, u, L=period)
    head = Head(draw)
    z, w = draw.vector(head.channels), draw.vector(head.channels)
    z_s, w_u = draw.moved(z), draw.moved(w)
    delta = max(abs(mp.expj(period * theta) - 1) for theta in head.thetas)
    sizes = [abs(a * b) for a, b in zip(z, w, strict=True)]
    v = {"lambda": head.scale, "delta": delta, "energy_sum": sum(sizes)}
    v |= {"query_norm": norm(z), "query_step": norm(minus(z_s, z))}
    for later_key, s, u in ((w, period, 0), (w_u, 0, period)):
        later_query = z_s if s else z
        observed = abs(head.logit(later_query, later_key, 20 + s, 3 + u) - head.logit(z, w, 20, 3))
        channels = {"z": z, "z_s": later_query, "w": w, "w_u": later_key}
        worst = head.total(formulas["worst_channel"], **channels, delta=delta)
        yield Compared("worst_channel", observed, "<=", worst)
        v |= {"key_norm_u": norm(later_key), "key_step": norm(minus(later_key, w))}
        v["query_step"] = norm(minus(later_query, z))
        yield Compared("repaired", observed, "<=", formulas["repaired"](v))
        constants = formulas["drift_constant"](v) * (v["query_step"] + v["key_step"])
        constants += formulas["resonance_constant"](v) * delta
        yield Compared("drift_constant", constants, "=", formulas["repaired"](v))


def softmax(logits: dict) -> dict:
    total = sum(map(mp.exp, logits.values()))
    return {key: mp.exp(logit) / total for key, logit in logits.items()}


def compared_rows(before: dict, after: dict) -> dict:
    """What the theorem says of two rows of logits by key: omega, gained, lost, distance."""
    common = before.keys() & after.keys()
    changes = [after[key] - before[key] for key in common]
    p, q = softmax(before), softmax(after)
    zero = mpf(0)
    keys = before.keys() | after.keys()
    return {
        "omega": max(max(changes) - min(changes), mpf(10) ** -20),
        "gained": sum((q[key] for key in q.keys() - p.keys()), zero),
        "lost": sum((p[key] for key in p.keys() - q.keys()), zero),
        "distance": sum((abs(p.get(key, zero) - q.get(key, zero)) for key in keys), zero) / 2,
    }


def seen_attention_distance(draw):
    formulas = FORMULAS["attention_distance"]
    n, size = draw.randint(2, 5), draw.number(0, 3)
    before = {key: draw.number(-2, 2) for key in range(n)}
    after = {key: logit + size * draw.number(-1, 1) for key, logit in before.items()}
    same = compared_rows(before, after)
    yield Compared("same_keys", same["distance"], "<=", formulas["same_keys"](same))
    chosen = draw.sample(range(n), draw.randint(1, n - 1))
    p, q = softmax(before), softmax(after)
    mass = {"omega": same["omega"], "mass": sum(p[key] for key in chosen)}
    yield Compared("mass_later", sum(q[key] for key in chosen), "<=", formulas["mass_later"](mass))
    after |= {f"new {key}": draw.number(-3, 2) for key in range(draw.randint(1, 2))}
    more = compared_rows(before, after)
    yield Compared("appended", more["distance"], "<=", formulas["appended"](more))
    before |= {f"old {key}": draw.number(-3, 2) for key in range(draw.randint(1, 2))}
    both = compared_rows(before, after)
    yield Compared("bound", both["distance"], "<=", formulas["bound"](both))
    yield Compared("excess", both["distance"] - both["gained"], "<=", formulas["excess"](both))
    p, q = softmax(before), softmax(after)
    gain = sum((max(mpf(0), q[key] - p[key]) for key in range(n)), mpf(0))
    yield Compared("excess", gain, "<=", formulas["excess"](both))
    yield from _rows_of_a_head(draw)


def _rows_of_a_head(draw):
    formulas = FORMULAS["attention_distance"]
    head = Head(draw)
    positions, t = 6, 4
    queries = [draw.vector(head.channels) for _ in range(positions + 3)]
    keys = [draw.vector(head.channels) for _ in range(positions + 3)]

    def row(place, shift):
        """Logits of a causal row; a key is named by where its side of the pair began."""
        return {j - shift: head.logit(queries[place], keys[j], place, j) for j in range(place + 1)}

    for s, u in ((2, 0), (1, 1), (0, 2)):
        before, after = row(t, 0), row(t + s, u)
        found = compared_rows(before, after)
        common = before.keys() & after.keys()
        found["bound_max"] = max(
            head.total(shifted(s, u), z=queries[t], z_s=queries[t + s], w=keys[i], w_u=keys[i + u])
            for i in common
        )
        yield Compared("oscillation", found["omega"], "<=", formulas["oscillation"](found))
        names = ["gaining_and_losing"] + (["only_gaining"] if s >= u else [])
        for name in names:
            yield Compared(name, found["distance"], "<=", formulas[name](found))
        if u == 0:
            sides = [rotated_channels(keys[i], i, head.thetas) for i in common]
            total = max(
                head.total(
                    formulas["column_oscillation"],
                    z=queries[t],
                    z_s=queries[t + s],
                    s=s,
                    key_distance=[abs(x) for x in minus(a, b)],
                )
                for a in sides
                for b in sides
            )
            yield Compared("column_oscillation", found["omega"], "<=", total)
            only = compared_rows(before, {key: after[key] for key in common})
            only["bound_max"] = found["bound_max"]
            allowed = formulas["same_keys_from_bound"](only)
            yield Compared("same_keys_from_bound", only["distance"], "<=", allowed)


def rotated_channels(vector, position, thetas):
    return [mp.expj(position * theta) * x for x, theta in zip(vector, thetas, strict=True)]


def seen_kv_reuse(draw):
    formulas = FORMULAS["kv_reuse"]
    n, more, size = draw.randint(2, 5), draw.randint(0, 2), draw.number(0, 2)
    before = {key: draw.number(-2, 2) for key in range(n)}
    after = {key: logit + size * draw.number(-1, 1) for key, logit in before.items()}
    after |= {key: draw.number(-2, 2) for key in range(n, n + more)}
    found = compared_rows(before, after)
    out = draw.sample(range(n), draw.randint(1, n - 1))
    p, q = softmax(before), softmax(after)
    values = {key: [draw.number(-1, 1) for _ in range(3)] for key in after}
    kept = [key for key in after if key not in out]
    v = found | {"mass": sum(p[key] for key in out), "bound_max": found["omega"] / 2}
    v["value_distance"] = max(norm(minus(values[i], values[j])) for i in out for j in kept)
    left = sum(q[key] for key in kept)
    full = [sum(q[key] * values[key][c] for key in after) for c in range(3)]
    cut = [sum(q[key] * values[key][c] for key in kept) / left for c in range(3)]
    error, mass = norm(minus(full, cut)), sum(q[key] for key in out)
    yield Compared("bound", error, "<=", formulas["bound"](v))
    yield Compared("output_error_from_bound", error, "<=", formulas["output_error_from_bound"](v))
    yield Compared("mass_later", mass, "<=", formulas["mass_later"](v))
    yield Compared("mass_in_row", mass, "<=", formulas["mass_in_row"](v))
    allowed = formulas["mass_later_from_bound"](v)
    yield Compared("mass_later_from_bound", mass, "<=", allowed)


def seen_query_drift(draw):
    formulas = FORMULAS["query_drift"]
    n, d, size = draw.randint(2, 5), 2, draw.number(0, draw.choice((4, Fraction(1, 5))))
    keys = [[draw.number(-1, 1) for _ in range(d)] for _ in range(n)]
    query, step = ([draw.number(-1, 1) for _ in range(d)] for _ in range(2))
    step = [size * part for part in step]
    scale = draw.number(0, 2)
    before = {k: scale * mp.fdot(query, key) for k, key in enumerate(keys)}
    changes = [scale * mp.fdot(step, key) for key in keys]
    p = softmax(before)
    q = softmax({k: before[k] + changes[k] for k in p})
    forward = sum(p[k] * mp.log(p[k] / q[k]) for k in p)
    backward = sum(q[k] * mp.log(q[k] / p[k]) for k in p)
    entries = [{"P": p[k], "D": changes[k]} for k in p]
    v = {"lambda": scale, "omega": max(changes) - min(changes)}
    v["mean"] = sum(formulas["mean_term"](entry) for entry in entries)
    entries = [entry | {"mean": v["mean"]} for entry in entries]
    v["exponential"] = sum(formulas["exponential_term"](entry) for entry in entries)
    v["variance"] = sum(formulas["square_term"](entry) for entry in entries)
    yield Compared("mean_term", mp.fdot(list(p.values()), changes), "=", v["mean"])
    yield Compared("divergence", forward, "=", formulas["divergence"](v))
    metric, total = formulas["key_metric"](v), mpf(0)
    means = [sum(p[k] * key[a] for k, key in enumerate(keys)) for a in range(d)]
    for a in range(d):
        for b in range(d):
            here = {"mean_a": means[a], "mean_b": means[b], "dq_a": step[a], "dq_b": step[b]}
            covariance = sum(
                formulas["covariance_term"](here | {"P": p[k], "k_a": key[a], "k_b": key[b]})
                for k, key in enumerate(keys)
            )
            total += formulas["metric_term"](v | here | {"covariance": covariance})
    yield Compared("metric_term", total / 2, "=", metric)
    yield Compared("bound", abs(forward - metric), "<=", formulas["bound"](v))
    yield Compared("reverse_error", abs(backward - metric), "<=", formulas["reverse_error"](v))
    for name in ("quadratic", "largest"):
        yield Compared(name, max(forward, backward), "<=", formulas[name](v))
    for prefix, found in (("", forward), ("reverse_", backward)):
        lower, upper = formulas[f"{prefix}lower"](v), formulas[f"{prefix}upper"](v)
        yield Compared(f"{prefix}lower", lower, "<=", found)
        yield Compared(f"{prefix}upper", found, "<=", upper)


def seen_typical_case(draw):
    formulas = FORMULAS["typical_case"]
    steps, n, d, scale = draw.randint(1, 4), draw.randint(1, 5), 2, draw.number(0, 2)
    moves = [[draw.number(-1, 1) for _ in range(d)] for _ in range(steps)]
    keys = [[draw.number(-1, 1) for _ in range(d)] for _ in range(n)]
    changes = [[scale * mp.fdot(move, key) for key in keys] for move in moves]
    squares = [x**2 for row in changes for x in row]
    mean = sum(squares) / len(squares)

    def moment(name, vectors, a, b, prefix):
        terms = ({f"{prefix}_a": x[a], f"{prefix}_b": x[b]} for x in vectors)
        return sum(map(formulas[name], terms)) / len(vectors)

    trace, row_mean = mpf(0), mpf(0)
    for a in range(d):
        for b in range(d):
            m_k = moment("key_term", keys, a, b, "k")
            m_q = moment("query_term", moves, a, b, "dq")
            here = {"lambda": scale, "m_k": m_k, "m_q": m_q}
            trace += formulas["rectangle_term"](here)
            row_mean += formulas["row_term"](here | {"dq_a": moves[0][a], "dq_b": moves[0][b]})
    yield Compared("rectangle_term", mean, "=", trace)
    yield Compared("row_term", sum(x**2 for x in changes[0]) / n, "=", row_mean)
    seen = [draw.randint(1, n) for _ in moves]
    masked = [row[:k] for row, k in zip(changes, seen, strict=True)]
    rows = [{"N": mpf(len(r)), "mean_square_t": sum(x**2 for x in r) / len(r)} for r in masked]
    total = sum(x**2 for row in masked for x in row)
    yield Compared("masked_term", total, "=", sum(map(formulas["masked_term"], rows)))
    threshold = mp.sqrt(draw.choice(squares)) or mpf(1)
    share = mpf(sum(x >= threshold**2 for x in squares)) / len(squares)
    allowed = formulas["bound"]({"mean_square": mean, "x": threshold})
    yield Compared("bound", share, "<=", allowed)


def seen_similarity_direction(draw):
    formulas = FORMULAS["similarity_direction"]
    head, (s, u), t, i = Head(draw), (draw.randint(0, 5), draw.randint(0, 5)), 9, 3
    z, w = draw.vector(head.channels), draw.vector(head.channels)
    z_s, w_u = draw.moved(z), draw.moved(w)
    v = {"lambda": head.scale, "query_norm": norm(z), "query_norm_s": norm(z_s)}
    v |= {"key_norm": norm(w), "key_step": norm(minus(w_u, w))}
    places = {"t": t, "i": i, "s": s, "u": u}
    channels = {"z": z, "z_s": z_s, "w": w, "w_u": w_u}
    v["similarity"] = head.total(formulas["product"], **channels, **places)
    v["similarity"] /= v["query_norm"] * v["query_norm_s"]
    repeated = head.logit(z_s, w, t + s, i + u) - head.logit(z, w, t, i)
    yield Compared("change", repeated, "=", head.total(formulas["change"], **channels, **places))
    both = head.logit(z_s, w_u, t + s, i + u) - head.logit(z, w, t, i)
    added = head.total(formulas["key_change"], **channels, **places)
    yield Compared("key_change", both - repeated, "=", added)
    yield Compared("bound", abs(repeated), "<=", formulas["bound"](v))
    yield Compared("with_key_step", abs(both), "<=", formulas["with_key_step"](v))
    # D^{s-u} q_{t+s} - q_t, D the rotation by one position
    seen, there = rotated(z_s, s - u, head.thetas), [(x.real, x.imag) for x in z]
    drift = mp.sqrt(head.total(lambda here: abs(query_change(here)) ** 2, **channels, **places))
    yield Compared("drift", apart(seen, there), "=", drift)
    yield Compared("step_squared", apart(seen, there) ** 2, "=", formulas["step_squared"](v))


def least_turn(v, query, later, keys):
    """by_angle, and the angle on the way to the later query at which one key overtakes."""
    origin = [(mpf(0), mpf(0))] * len(query)

    def dot(a, b):
        return sum(x * p + y * q for (x, y), (p, q) in zip(a, b, strict=True))

    lead = [(x - p, y - q) for (x, y), (p, q) in zip(*keys, strict=True)]
    v = v | {"query_norm": apart(query, origin), "lead": v["lambda"] * abs(dot(query, lead))}
    along = dot(query, later) / dot(query, query)
    across = [(x - along * p, y - along * q) for (x, y), (p, q) in zip(later, query, strict=True)]
    lost = abs(dot(across, lead)) / apart(across, origin)
    tie = mp.atan2(abs(dot(query, lead)) / v["query_norm"], lost)
    return FORMULAS["lifetime"]["by_angle"](v), "<=", tie


def seen_lifetime(draw):
    formulas = FORMULAS["lifetime"]
    head, s, t, i, u = Head(draw), draw.randint(1, 6), 9, draw.randint(0, 4), draw.randint(1, 4)
    w, w_u = draw.vector(head.channels), draw.vector(head.channels)
    path = [draw.vector(head.channels)]
    for _ in range(s):
        path.append(draw.moved(path[-1], draw.number(0, Fraction(1, 2))))
    z, z_s = path[0], path[-1]
    channels = {"z": z, "z_s": z_s, "w": w, "w_u": w_u, "s": s, "u": u, "t": t, "i": i}

    def lead(query, place):
        return head.logit(query, w, place, i) - head.logit(query, w_u, place, i + u)

    yield Compared("margin", lead(z, t), "=", head.total(formulas["margin"], **channels))
    changed = abs(lead(z_s, t + s) - lead(z, t))
    yield Compared("bound", changed, "<=", head.total(formulas["bound"], **channels))
    after = [rotated(query, t + k, head.thetas) for k, query in enumerate(path)]
    turned_keys = [rotated(key, place, head.thetas) for key, place in ((w, i), (w_u, i + u))]
    v = {"lambda": head.scale, "query_move": apart(after[-1], after[0])}
    v["key_distance"] = apart(*turned_keys)
    yield Compared("by_norms", changed, "<=", formulas["by_norms"](v))
    yield Compared("by_angle", *least_turn(v, after[0], after[-1], turned_keys))
    steps = [[apart([a], [b]) for a, b in zip(x, y, strict=True)] for x, y in pairwise(after)]
    largest = [max(column) for column in zip(*steps, strict=True)]
    allowed = head.total(formulas["by_steps"], **channels, step_after=largest)
    yield Compared("by_steps", changed, "<=", allowed)
    for m, theta in enumerate(head.thetas):
        here = {"step_before": abs(path[1][m] - z[m]), "theta": theta, "z": z[m]}
        yield Compared("step", steps[0][m], "<=", formulas["step"](here))
    new = t + draw.randint(1, s) - i
    ahead = head.logit(z_s, w_u, t + s, i + new) - head.logit(z_s, w, t + s, i)
    allowed = head.total(formulas["new_key"], **(channels | {"u": new}))
    yield Compared("new_key", ahead + head.logit(z, w, t, i), "<=", allowed)
    bounds = [head.total(shifted(s, 0), z=z, z_s=z_s, w=key, w_u=key) for key in (w, w_u)]
    yield Compared(
        "oscillation", changed, "<=", formulas["oscillation"]({"bound_max": max(bounds)})
    )


FORMATS = {"float32": (24, -126), "bfloat16": (8, -126), "float16": (11, -14)}
"""Significant bits, exponent of the smallest normal number."""


def nearest(x, bits, lowest=None):
    """x rounded to so many bits, ties to even; below the normal numbers to their spacing."""
    if x == 0:
        return x
    exponent = mp.frexp(x)[1] if lowest is None else max(mp.frexp(x)[1], lowest + 1)
    return mp.ldexp(mp.nint(mp.ldexp(x, bits - exponent)), exponent - bits)


def rotation(z, c, s, off, fused=False):
    """The rotated z with every product and sum rounded by `off`."""

    def kept(x):
        return x if fused else off(x)

    real = off(kept(z.real * c) - off(z.imag * s))
    return mpc(real, off(kept(z.real * s) + off(z.imag * c)))


def seen_rotation_precision(draw):
    formulas = FORMULAS["rotation_precision"]
    kind = draw.choice(("bfloat16", "float16"))
    bits, lowest = FORMATS[kind]
    theta = draw.number(0, 1) ** draw.randint(1, 8)
    position = draw.randint(0, 2 ** draw.randint(1, 24))
    stored = nearest(theta, 24)
    angle = nearest(position * stored, 24)
    exact = mp.expj(position * theta)
    computed = [nearest(part, 24) for part in (mp.cos(angle), mp.sin(angle))]
    u = mpf(2) ** -bits
    v = {"p": mpf(position), "theta": theta, "frequency_error": abs(stored / theta - 1)}
    v |= {"u_angle": mpf(2) ** -24, "trig_error": mpf(2) ** -25, "u_table": u, "u": u}
    v["tiny"] = mpf(2) ** (lowest - bits)
    c, s = (nearest(part, bits, lowest) for part in computed)
    table = mpc(c, s)
    yield Compared("angle_error", abs(angle - position * theta), "<=", formulas["angle_error"](v))
    yield Compared("table_error", abs(table - mp.expj(angle)), "<=", formulas["table_error"](v))
    yield Compared("turn_error", abs(table - exact), "<=", formulas["turn_error"](v))
    turned_by = abs(mp.arg(table / exact))
    yield Compared("angle_deviation", turned_by, "<=", formulas["angle_deviation"](v))
    factor = draw.number(1, 2)
    scaled = mpc(*(nearest(factor * part, bits, lowest) for part in computed))
    off = abs(scaled / factor - mp.expj(angle))
    yield Compared("table_error_scaled", off, "<=", formulas["table_error_scaled"](v))
    turned_by = abs(mp.arg(scaled / exact))
    allowed = formulas["angle_deviation_scaled"](v)
    yield Compared("angle_deviation_scaled", turned_by, "<=", allowed)

    size = mpf(2) ** -draw.randint(0, 20)
    z = mpc(*(nearest(size * draw.number(-1, 1), bits, lowest) for _ in range(2)))
    v["z"] = z
    for name, fused in (("bound", False), ("channel_error_fused", True)):
        with_underflow = rotation(z, c, s, lambda x: nearest(x, bits, lowest), fused)
        yield Compared(name, abs(with_underflow - z * exact), "<=", formulas[name](v))
    for fused in (False, True):
        ending = "_fused" if fused else ""
        free = rotation(z, c, s, lambda x: nearest(x, bits), fused)
        allowed = formulas[f"arithmetic{ending}"](v) * abs(z * table)
        yield Compared(f"arithmetic{ending}", abs(free - z * table), "<=", allowed)
        allowed = formulas[f"relative_error{ending}"](v) * abs(z)
        yield Compared(f"relative_error{ending}", abs(free - z * exact), "<=", allowed)
    yield from _invariance(draw)
    there = formulas["crossover"](v) * v["u_angle"]
    yield Compared("crossover", there, "=", formulas["table_error"](v | {"trig_error": mpf(0)}))


def _invariance(draw):
    z, w = draw.vector(2)
    theta, t, i, s = draw.number(0, 3), draw.randint(5, 9), draw.randint(0, 4), draw.randint(1, 5)
    scale, sides, v = draw.number(0, 1), [], {"z": z, "w": w}
    for name, x, place in (("q", z, t), ("k", w, i), ("q_s", z, t + s), ("k_s", w, i + s)):
        error = draw.complex() / 10
        v[f"error_{name}"] = abs(error)
        sides.append(x * mp.expj(place * theta) * (1 + error))
    observed = abs(real_product(sides[2], sides[3]) - real_product(sides[0], sides[1]))
    allowed = invariance_loss(v | {"lambda": scale})
    yield Compared("invariance_loss", scale * observed, "<=", allowed)


OBSERVED: dict[str, Callable[[Draw], Iterator[Compared]]] = {
    "shift_bound": seen_shift_bound,
    "proposition_4_1": seen_proposition_4_1,
    "re_access": seen_re_access,
    "sequential": seen_sequential,
    "periodic_sequential": seen_periodic_sequential,
    "seasonal": seen_seasonal,
    "attention_distance": seen_attention_distance,
    "kv_reuse": seen_kv_reuse,
    "query_drift": seen_query_drift,
    "typical_case": seen_typical_case,
    "similarity_direction": seen_similarity_direction,
    "lifetime": seen_lifetime,
    "rotation_precision": seen_rotation_precision,
}
"""theorem -> comparisons of what is bounded, computed from the definitions, with the bounds."""
