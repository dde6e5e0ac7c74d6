"""The figure of the bounds under attack: median and worst ratio of every theorem, by input."""

from __future__ import annotations

from simulations.experiment import Drawn, Outcome
from tappa_theory.app.style import GUIDE, INK, PAGE_WIDTH, new_figure, number_text
from tappa_theory.theorems import THEOREMS

INPUTS = ("random", "real_like", "optimised", "near_equality")
"""Random ones; drawn from heads with a real model's moments; climbed from random ones; climbed from
the cases of equality, disturbed."""
NAMES = {
    "random": "random",
    "real_like": "real-like",
    "optimised": "optimised from random",
    "near_equality": "optimised near equality",
}

_MARKS = {
    "random": ("#56b4e9", "o"),
    "real_like": (INK, "D"),
    "optimised": ("#d55e00", "^"),
    "near_equality": ("#009e73", "s"),
}


def _of_figure(outcome: Outcome) -> dict[tuple[str, str], tuple[float, float]]:
    """(median, worst) by theorem and inputs: the theorem's own bound at its largest head size."""
    table = outcome.tables["ratios"]
    found: dict[tuple[str, str], tuple[int, float, float]] = {}
    for theorem, bound, size, inputs, worst, median in zip(
        *(table[name] for name in ("theorem", "bound", "head_size", "inputs", "worst", "median")),
        strict=True,
    ):
        key, rank = (theorem, inputs), size or 0
        if bound == theorem and rank >= found.get(key, (0, 0.0, 0.0))[0]:
            found[key] = (rank, median, worst)
    return {key: value[1:] for key, value in found.items()}


def draw(outcome: Outcome) -> Drawn:
    """One row for each theorem: from the median to the worst ratio, by kind of input."""
    fig = new_figure(PAGE_WIDTH, 5.4)
    axes = fig.add_subplot()
    ratios = _of_figure(outcome)
    names = list(THEOREMS)
    for row, theorem in enumerate(names):
        if row % 2:
            axes.axhspan(row - 0.5, row + 0.5, color="#f2f2f2", linewidth=0, zorder=0)
        for place, inputs in enumerate(INPUTS):
            if (theorem, inputs) not in ratios:
                continue
            median, worst = ratios[theorem, inputs]
            colour, marker = _MARKS[inputs]
            y = row + 0.22 * (place - 1.5)
            axes.plot([median, worst], [y, y], color=colour, linewidth=1.2, zorder=2)
            axes.plot(median, y, "|", color=colour, markersize=5, markeredgewidth=1.2, zorder=2)
            axes.plot(worst, y, marker, color=colour, markersize=3.5, zorder=3)
    for inputs in INPUTS:
        colour, marker = _MARKS[inputs]
        axes.plot([], [], color=colour, marker=marker, markersize=4, label=NAMES[inputs])
    axes.axvline(1.0, color=GUIDE, linewidth=0.8, linestyle="--", zorder=1)
    axes.set_xlim(-0.02, 1.03)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("observed / bound of the theorem")
    fig.legend(loc="outside upper center", ncols=len(INPUTS))
    return Drawn(
        figure=fig,
        title="Bounds under attack",
        caption=_caption(outcome),
        alt=_alt(ratios),
    )


def _caption(outcome: Outcome) -> str:
    given = outcome.conditions
    return (
        "Observed side over the bound of each theorem (its own, not its auxiliary forms), at the"
        f" largest head size tried ({max(given['head_sizes'])} at most). The bar runs from the"
        " median of the inputs (tick) to the worst (mark); 1 is the proved limit (dashed)."
        f" {given['random_instances']} random inputs; {given['searches']} searches of up to"
        f" {given['evaluations']} evaluations from random inputs and as many from disturbed cases"
        f" of equality; pairs and rows of {given['real_like_heads']} heads with the moments of"
        f" {given['moments_of']}, {given['real_like_length']} tokens. A kind of input that a"
        " theorem has none of is left out."
    )


def _alt(ratios: dict[tuple[str, str], tuple[float, float]]) -> str:
    def spread(inputs: str) -> str:
        worst = [value[1] for (_, kind), value in ratios.items() if kind == inputs]
        return f"{number_text(min(worst))} to {number_text(max(worst))}"

    return (
        f"Bars for {len(THEOREMS)} theorems and up to {len(INPUTS)} kinds of input. Worst ratios"
        f" by theorem: {', '.join(f'{NAMES[kind]} {spread(kind)}' for kind in INPUTS)}; 1 is"
        " the proved limit."
    )
