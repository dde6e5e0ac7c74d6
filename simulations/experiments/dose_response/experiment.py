"""Dose and response: how much of what a theorem allows happens, in four panels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from simulations.experiment import Criterion, Experiment, Outcome, Settings, columns
from simulations.experiments.dose_response.figure import draw
from simulations.experiments.dose_response.panels import (
    ANTI_RESONANT_SHARE,
    CHANNELS,
    LENGTH,
    PANELS,
    PERIOD,
    RESONANT,
    ROPE,
    Panel,
    Response,
)
from tappa_theory.app.style import number_text

DOSES = 16
QUICK_DOSES = 8
HEADS = 8
QUICK_HEADS = 3
LINEAR = 0.1
"""Dose up to which a coefficient is fitted: what is of third order is below 1% there."""
POWER_TO = 0.3
"""Dose up to which a power is fitted: below the doses at which sines and arcsines bend."""

POWER_ERROR = 0.1
"""How far a fitted power may be from 1: every bound here is linear to first order."""
ATTAINED = 0.01
"""How far the coefficient of the adversarial heads may be from the theorem's: a bound wrong by 1%
must show."""
ROUNDING = 1e-9
"""Relative: logits err by less than 1e-13 of lambda |q||k|, the least bound is 1e-3 of it, and a
drift of 1e-3 made from its cosine errs by 2e-10 of itself."""

CURVES = ("typical", "worst", "adversarial")


@dataclass(frozen=True)
class Fit:
    """Power and coefficient of one curve, and what the theorem's bound has."""

    panel: str
    curve: str
    power: float
    coefficient: float
    theorem_coefficient: float

    @property
    def share(self) -> float:
        """The coefficient over the theorem's."""
        return self.coefficient / self.theorem_coefficient


def power(doses: Sequence[float], responses: Sequence[float]) -> float:
    """Slope of log response over log dose, doses up to `POWER_TO`."""
    dose, response = np.asarray(doses), np.asarray(responses)
    here = dose <= POWER_TO
    return float(np.polyfit(np.log(dose[here]), np.log(response[here]), 1)[0])


def coefficient(doses: Sequence[float], responses: Sequence[float]) -> float:
    """Slope of response over dose, doses up to `LINEAR`; what is there without a dose is apart."""
    dose, response = np.asarray(doses), np.asarray(responses)
    here = dose <= LINEAR
    return float(np.polyfit(dose[here], response[here], 1)[0])


def run(settings: Settings) -> Outcome:
    """The responses to every dose of every panel, their fits, and the theorem's."""
    count = QUICK_DOSES if settings.quick else DOSES
    heads = QUICK_HEADS if settings.quick else HEADS
    responses = {
        panel.name: [
            panel.respond(settings.random(number, place), float(dose), heads)
            for place, dose in enumerate(np.geomspace(panel.least, panel.most, count))
        ]
        for number, panel in enumerate(PANELS)
    }
    by_panel = {panel.name: _fits(panel, responses[panel.name]) for panel in PANELS}
    fits = [fit for found in by_panel.values() for fit in found]
    return Outcome(
        tables={"responses": _response_table(responses), "fits": _fit_table(fits)},
        criteria=tuple(
            criterion
            for panel in PANELS
            for criterion in _criteria(panel, responses[panel.name], by_panel[panel.name])
        ),
        finding=_finding(responses, fits),
        conditions={
            "length": LENGTH,
            "head_size": 2 * CHANNELS,
            "head_size_seasonal": 2 * RESONANT,
            "base": ROPE.base,
            "period": PERIOD,
            "heads_per_dose": heads,
            "doses": count,
        },
    )


def _fits(panel: Panel, responses: list[Response]) -> list[Fit]:
    doses = [response.dose for response in responses]
    bound = coefficient(doses, [response.bound for response in responses])
    fits = []
    for curve in CURVES:
        seen = [float(getattr(response, curve)) for response in responses]
        fits.append(Fit(panel.name, curve, power(doses, seen), coefficient(doses, seen), bound))
    return fits


def _criteria(panel: Panel, responses: list[Response], fits: list[Fit]) -> list[Criterion]:
    """What decides one panel; fits: its own."""
    attained = next(fit for fit in fits if fit.curve == "adversarial")
    criteria = [
        Criterion(
            f"{panel.name}: no response above the bound, largest ratio",
            max(response.ratio for response in responses),
            "<=",
            1 + ROUNDING,
            proven=True,
        ),
        Criterion(
            f"{panel.name}: the coefficient of the adversarial heads is the theorem's, relative"
            " difference",
            abs(attained.share - 1),
            "<=",
            ATTAINED,
            proven=True,
        ),
        Criterion(
            f"{panel.name}: the response is linear in the dose, largest error of a fitted power",
            max(abs(fit.power - 1) for fit in fits),
            "<=",
            POWER_ERROR,
        ),
    ]
    if panel.name == "periodic":
        criteria.append(
            Criterion(
                "periodic: one maximum in every period, number of exceptions",
                sum(response.irregular for response in responses),
                "<=",
                0,
                proven=True,
            )
        )
    return criteria


def _finding(responses: dict[str, list[Response]], fits: list[Fit]) -> str:
    parts = []
    for panel in PANELS:
        by = {fit.curve: number_text(fit.share) for fit in fits if fit.panel == panel.name}
        parts.append(f"{panel.name} {', '.join(by[curve] for curve in CURVES)}")
    powers = [fit.power for fit in fits]
    largest = max(response.ratio for found in responses.values() for response in found)
    least = min(responses["seasonal"], key=lambda response: response.dose)
    assert least.published is not None
    return (
        f"The largest response is {number_text(largest)} times its bound, and fitted powers of"
        f" response over dose are {min(powers):.2f} to {max(powers):.2f}. Coefficients over the"
        f" theorem's ({', '.join(CURVES)}): {'; '.join(parts)}. With"
        f" {ANTI_RESONANT_SHARE:.0%} of the energy on an anti-resonant channel the change after a"
        f" period is {number_text(least.published / least.bound)} times the published bound at a"
        f" dominant resonance error of {least.dose:g}."
    )


def _response_table(responses: dict[str, list[Response]]) -> dict[str, list[Any]]:
    rows = [
        {"panel": name, "curve": curve, "dose": response.dose, "response": value}
        for name, found in responses.items()
        for response in found
        for curve in (*CURVES, "bound", "published")
        if (value := getattr(response, curve)) is not None
    ]
    return columns(rows)


def _fit_table(fits: list[Fit]) -> dict[str, list[Any]]:
    rows = [
        {
            "panel": fit.panel,
            "curve": fit.curve,
            "power": fit.power,
            "coefficient": fit.coefficient,
            "theorem_coefficient": fit.theorem_coefficient,
            "share": fit.share,
        }
        for fit in fits
    ]
    return columns(rows)


EXPERIMENT = Experiment(
    name="dose_response",
    title="Dose and response",
    question=(
        "How do logits and diagonals answer to drift, resonance error and kappa, and how much of"
        " what the theorems allow happens?"
    ),
    run=run,
    draw=draw,
)
