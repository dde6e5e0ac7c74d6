"""What rounding leaves of RoPE up to position 131,072, against the theorem `rotation_precision`.

Tables are made as models make them: angles are float32 products of the position and a stored
float32 frequency, their cosines and sines float32, rounded to the type of queries and keys, in
which these are then rotated. Beside it one wrong practice: angles in bfloat16, too.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from simulations.experiment import Criterion, Experiment, Outcome, Settings, columns
from simulations.experiments.precision.figure import draw
from simulations.experiments.precision.measures import (
    BASE,
    BFLOAT16,
    FLOAT16,
    FLOAT32,
    HEAD_DIM,
    LAST,
    NEAR,
    PRACTICES,
    WRONG,
    ByAngle,
    drift,
    shifted_to,
    tables,
)
from simulations.experiments.precision.rope import Practice
from tappa_theory.app.style import number_text
from tappa_theory.separable import evaluate
from tappa_theory.theorems.rotation_precision import CROSSOVER, TABLE_ERROR, UNIT_ROUNDOFF

WITHIN = 1 + 2.0**-24
"""Observed over bound, at most: float64 is off by at most (p theta + 8) 2^-53 of a channel, and no
bound here is below (p theta + 1/2) 2^-24 of it; a sum over 64 channels adds 2^-47."""
OCTAVE = 2.0
"""Observed crossover over the theorem's, at most: the spacing of float32 doubles at powers of two,
and half of it stays below p theta 2^-24 in between, by up to a factor 2."""
TIGHT_TABLE = 0.9
"""Largest deviation of a 16-bit table over its bound: it is attained where cosine and sine both lie
midway between stored numbers, and of millions of entries some come close."""
TIGHT_ROTATION = 0.5
"""Largest error of a rotation over its bound: table and arithmetic are bounded one by one, and the
worst cases of both are rare."""
TIGHT_DRIFT = 0.25
"""Largest drift of one channel over its bound: four rotations would have to err at their worst, and
all in the direction that moves the logit."""
FROM = 1024
SLOPE = 0.15
"""Distance from 1 of the slope of the float32 drift, log-log from position 1,024 on: its angles err
in proportion to the position, and from a few hundred radians on by more than its arithmetic."""
FLAT = 2.0
"""Median bfloat16 drift in the last octave over that in the first, at most: a table errs alike
everywhere, and few channels reach the crossover."""
COST = 10.0
"""Median drift with bfloat16 angles over that with float32 angles, at each position from 1,024 on:
stored positions are 8 apart there, which turns 12 of 64 channels by up to a radian and more, and
what a rotation in bfloat16 costs is some 2^-8 of each."""


def _run(settings: Settings) -> Outcome:
    stride, pairs = (16, 48) if settings.quick else (1, 256)
    found = tables(settings.random(0), stride)
    places = shifted_to(found.rounding, stride)
    drifts: list[dict[str, Any]] = []
    heads, channels = {}, {}
    for practice in PRACTICES:
        entries, heads[practice.name], channels[practice.name] = drift(
            settings.random(1), practice, places, pairs
        )
        drifts += entries
    angles = [row for name, each in found.by_angle.items() for row in each.rows(name)]
    bounds = [
        {
            "practice": name,
            "quantity": quantity,
            "instances": ratios.instances,
            "largest_ratio": ratios.largest,
            "mean_ratio": ratios.total / ratios.instances,
        }
        for quantity, by_practice in (
            ("angle_deviation", found.deviation),
            ("channel_error", found.rotation),
            ("invariance_loss, head", heads),
            ("invariance_loss, channel", channels),
        )
        for name, ratios in by_practice.items()
    ]
    crossings = [_crossover(found.by_angle, practice) for practice in (BFLOAT16, FLOAT16)]
    conditions = {
        "head_size": HEAD_DIM,
        "base": BASE,
        "last_position": LAST,
        "position_stride": stride,
        "pairs": pairs,
        "largest_trig_error": max(row["trig_error"] for row in found.channels),
        "largest_frequency_error": max(
            row["frequency_error"] for row in found.channels if row["practice"] != WRONG.name
        ),
    }
    return Outcome(
        {
            "drift": columns(drifts),
            "angles": columns(angles),
            "bounds": columns(bounds),
            "crossovers": columns(crossings),
            "channels": columns(found.channels),
        },
        _criteria(bounds, crossings, drifts),
        _finding(bounds, crossings, drifts),
        conditions,
    )


def _crossover(by_angle: dict[str, ByAngle], practice: Practice) -> dict[str, Any]:
    """Where float32 angles overtake that table: in the theorem, and the first bin in which one errs
    by more than any entry of the table. allowed: of the angles, over the table's bound, up to the
    theorem's."""
    unit = float(UNIT_ROUNDOFF[practice.table])
    values = {"u_table": np.float64(unit), "u_angle": float(UNIT_ROUNDOFF["float32"])}
    expected = float(evaluate(CROSSOVER, values))
    allowed = float(evaluate(TABLE_ERROR, values | {"trig_error": 0.0}))
    angles, largest = by_angle["angles"], by_angle[practice.name].largest.max()
    beyond = np.flatnonzero(angles.largest > largest)
    # Bins end at 2^(n/BINS), of which the theorem's crossovers are two.
    below = angles.largest[angles.edges < expected * (1 - 1e-9)]
    return {
        "table": practice.name,
        "theorem": expected,
        "observed": float(angles.edges[beyond[0]]) if beyond.size else None,
        "largest_table_error": float(largest),
        "table_bound": allowed,
        "largest_angle_rounding_below": float(below.max()),
    }


def _at(entries: list[dict[str, Any]], practice: Practice, key: str = "median") -> np.ndarray:
    """(places on the grid,) of the drift with that practice."""
    return np.array(
        [e[key] for e in entries if e["practice"] == practice.name and e["chosen"] == "grid"]
    )


def _slope(drifts: list[dict[str, Any]]) -> float:
    """Log-log slope of the median float32 drift over the position, from FROM on."""
    place, median = _at(drifts, FLOAT32, "position"), _at(drifts, FLOAT32)
    return float(np.polyfit(np.log(place[place >= FROM]), np.log(median[place >= FROM]), 1)[0])


def _flat(drifts: list[dict[str, Any]]) -> float:
    place, median = _at(drifts, BFLOAT16, "position"), _at(drifts, BFLOAT16)
    return float(np.median(median[place >= LAST // 2]) / np.median(median[place <= 4 * NEAR]))


def _cost(drifts: list[dict[str, Any]]) -> np.ndarray:
    """Median drift with bfloat16 angles over that with float32 angles, at each place from FROM."""
    place = _at(drifts, BFLOAT16, "position")
    return (_at(drifts, WRONG) / _at(drifts, BFLOAT16))[place >= FROM]


def _largest(bounds: list[dict[str, Any]], quantity: str, *practices: Practice) -> list[float]:
    names = [practice.name for practice in practices or PRACTICES]
    return [
        row["largest_ratio"]
        for row in bounds
        if row["quantity"].startswith(quantity) and row["practice"] in names
    ]


def _criteria(
    bounds: list[dict[str, Any]],
    crossings: list[dict[str, Any]],
    drifts: list[dict[str, Any]],
) -> tuple[Criterion, ...]:
    below = max(row["largest_angle_rounding_below"] / row["table_bound"] for row in crossings)
    return (
        Criterion(
            "angle of a stored cosine and sine off the exact one, over its bound",
            max(_largest(bounds, "angle_deviation")), "<=", WITHIN, True,
        ),
        Criterion(
            "error of a rotated channel, over its bound",
            max(_largest(bounds, "channel_error")), "<=", WITHIN, True,
        ),
        Criterion(
            "drift of a logit under a shift of both positions, over its bound, of heads and"
            " channels", max(_largest(bounds, "invariance_loss")), "<=", WITHIN, True,
        ),
        Criterion(
            "rounding of a float32 angle below the crossover, over the bound of the table",
            below, "<=", WITHIN, True,
        ),
        *(
            Criterion(
                f"crossover of float32 angles and a {row['table']} table, observed over"
                f" {number_text(row['theorem'])} radians",
                math.inf if row["observed"] is None else row["observed"] / row["theorem"],
                "<=", OCTAVE,
            )
            for row in crossings
        ),
        Criterion(
            "largest deviation of a 16-bit table over its bound, the smaller of two types",
            min(_largest(bounds, "angle_deviation", FLOAT16, BFLOAT16)), ">=", TIGHT_TABLE,
        ),
        Criterion(
            "largest error of a rotation over its bound, the smallest of three types",
            min(_largest(bounds, "channel_error", FLOAT32, FLOAT16, BFLOAT16)),
            ">=", TIGHT_ROTATION,
        ),
        Criterion(
            "largest drift of a channel over its bound, the smallest of three types",
            min(_largest(bounds, "invariance_loss, channel", FLOAT32, FLOAT16, BFLOAT16)),
            ">=", TIGHT_DRIFT,
        ),
        Criterion(
            "float32: distance from 1 of the slope of log drift over log position",
            abs(_slope(drifts) - 1), "<=", SLOPE,
        ),
        Criterion(
            "bfloat16: drift in the last octave of positions over that in the first",
            _flat(drifts), "<=", FLAT,
        ),
        Criterion(
            "drift with bfloat16 angles over that with float32 angles, from position"
            f" {FROM:,} on", float(_cost(drifts).min()), ">=", COST,
        ),
    )  # fmt: skip


def _finding(
    bounds: list[dict[str, Any]],
    crossings: list[dict[str, Any]],
    drifts: list[dict[str, Any]],
) -> str:
    last = {practice.name: float(_at(drifts, practice)[-1]) for practice in PRACTICES}
    crossed = " and ".join(
        f"{number_text(row['observed'])} radians ({row['table']}, theorem:"
        f" {number_text(row['theorem'])})"
        for row in crossings
    )
    exceeded = sum(row["largest_ratio"] > WITHIN for row in bounds)
    return (
        f"Moved to position {LAST:,}, a logit drifts by {number_text(last['float32'])} of |q||k| in"
        f" float32, {number_text(last['float16'])} in float16 and"
        f" {number_text(last['bfloat16'])} in bfloat16 (medians), and by"
        f" {number_text(last[WRONG.name])} if the angles are bfloat16, too."
        f" {'No bound was' if not exceeded else f'{exceeded} bounds were'} exceeded; the largest"
        f" ratios in float32, float16 and bfloat16 are {_three(bounds, 'angle_deviation')} (angle"
        f" of a table entry), {_three(bounds, 'channel_error')} (rotation) and"
        f" {_three(bounds, 'invariance_loss, channel')} (drift of a channel). Float32 angles are"
        f" seen to err by more than any entry of a table from {crossed} on."
    )


def _three(bounds: list[dict[str, Any]], quantity: str) -> str:
    ratios = _largest(bounds, quantity, FLOAT32, FLOAT16, BFLOAT16)
    return ", ".join(number_text(ratio) for ratio in ratios)


EXPERIMENT = Experiment(
    name="precision",
    title="Precision: relative-position drift of float32, bfloat16 and float16 RoPE",
    question=(
        "How far do rotations in few bits drift apart up to position 131,072, and how much of it do"
        " the bounds of rotation_precision leave to be feared?"
    ),
    run=_run,
    draw=draw,
)
