"""The figure of the energy of every head by RoPE channel, drawn from check.json alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from gpu_check.figure_parts import FAINTEST, Check, Drawing, line_handle, say
from gpu_check.over_texts import Entry, by_head, head_unit, text_count
from tappa_theory.app.style import INK, PAGE_WIDTH, new_figure, number_text
from tappa_theory.energy import period

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def channel_spectra(check: Check) -> Drawing:
    """Share of energy per RoPE channel and head, plain and weighted by frequency."""
    from matplotlib import colormaps
    from matplotlib.colors import LogNorm

    measured = [entry for entry in check["heads"] if entry["channel_energy"]]
    groups = sorted(by_head(measured), key=lambda group: _place(group[0]))
    channels = max((len(entry["channel_energy"]) for entry in measured), default=1)
    energy = np.zeros((max(len(groups), 1), channels))
    weighted, theta = np.zeros_like(energy), np.zeros_like(energy)
    for row, group in enumerate(groups):
        parts = [_padded(entry["channel_energy"], channels) for entry in group]
        frequencies = [_frequencies(check, entry, channels) for entry in group]
        energy[row] = np.mean(parts, axis=0)
        weighted[row] = np.mean([a * b for a, b in zip(parts, frequencies, strict=True)], axis=0)
        longest = max(range(len(group)), key=lambda index: _tokens(check, group[index]))
        theta[row] = frequencies[longest]
    tokens = max((text["tokens"] for text in check["texts"]), default=0)
    context = check["model"].get("context_length")
    figure = new_figure(PAGE_WIDTH, 3.9)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, numbers, name in (
        (panels[0], energy, r"energy $A_m$ = mean $|z_m||w_m|$"),
        (panels[1], weighted, r"frequency-weighted $\theta_m A_m$"),
    ):
        image = axes.imshow(
            _shares(numbers),
            aspect="auto",
            cmap=colormaps["viridis"],
            norm=LogNorm(FAINTEST, 1.0),
            extent=(-0.5, channels - 0.5, len(energy) - 0.5, -0.5),
        )
        axes.set_title(name, loc="left")
        axes.set_xlabel("RoPE channel m")
        if groups:
            _period_axis(axes, theta[0])
            _period_line(axes, theta, tokens, "-")
            if context:
                _period_line(axes, theta, context, ":")
        else:
            image.set_visible(False)
            say(axes, "no values")
    layers = [group[0]["layer"] for group in groups]
    first = [row for row, layer in enumerate(layers) if row == 0 or layer != layers[row - 1]]
    step = max(len(first) // 10, 1)
    panels[0].set_yticks(
        [row - 0.5 for row in first[::step]], [str(layers[row]) for row in first[::step]]
    )
    panels[0].set_ylabel("layer (its heads below each other)")
    bar = figure.colorbar(image, ax=list(panels), shrink=0.8, pad=0.01, extend="min")
    bar.set_label("share of the head's sum")
    bar.outline.set_visible(False)
    which = "the text" if len(check["texts"]) < 2 else "the longest text"
    handles = [line_handle("white", "-", INK)]
    labels = [f"period = the {tokens:,} tokens of {which}"]
    if context:
        handles.append(line_handle("white", ":", INK))
        labels.append(f"period = context length {context:,}")
    if groups:
        figure.legend(handles, labels, loc="outside lower center", ncols=2)
    longer = _longer_periods(check, measured)
    count = text_count(check)
    over = (
        f" Energies are means over {count} texts; periods are those of the longest."
        if count > 1
        else ""
    )
    return (
        figure,
        "RoPE-channel spectra",
        "Share of each RoPE channel in the energy of every head, plain and weighted by frequency;"
        f" one row per head.{over} Top axis: the period 2 pi / theta of the channel (of the first"
        f" head's RoPE), positions. RoPE: {_ropes(check)}. {longer}",
        f"Two heat maps of heads by RoPE channels. {longer}",
    )


def _place(entry: Entry) -> tuple[int, int]:
    return entry["layer"], entry["head"]


def _padded(numbers: list[float], length: int) -> np.ndarray:
    return np.pad(np.array(numbers, dtype=np.float64), (0, length - len(numbers)))


def _tokens(check: Check, entry: Entry) -> int:
    """Tokens of the text of an entry."""
    tokens: int = check["texts"][entry.get("text", 0)]["tokens"]
    return tokens


def _frequencies(check: Check, entry: Entry, length: int) -> np.ndarray:
    """(length,) theta of the RoPE that the head had on its text, zero where it has no channel."""
    text = entry.get("text", 0)
    for rope in check["model"]["rope"]:
        if entry["layer"] in rope["layers"] and text in rope.get("texts", [text]):
            return _padded((rope.get("frequencies") or [])[:length], length)
    return np.zeros(length)


def _ropes(check: Check) -> str:
    every = len(check["texts"])
    return "; ".join(
        f"{rope['type']}, base {number_text(rope['base'])}, {len(rope['layers'])} layers"
        + (
            f", texts {', '.join(map(str, rope['texts']))}"
            if len(rope.get("texts") or range(every)) < every
            else ""
        )
        for rope in check["model"]["rope"]
    )


def _shares(energy: np.ndarray) -> np.ndarray:
    """Each row over its sum; what is fainter than the colours reach is drawn faintest."""
    total = energy.sum(axis=1, keepdims=True)
    share = energy / np.where(total > 0, total, 1.0)
    return np.maximum(share, FAINTEST / 10)


def _period_axis(axes: Axes, theta: np.ndarray) -> None:
    """A second axis at the top that names the period of some channels, in positions."""
    top = axes.secondary_xaxis("top")
    chosen = np.unique(np.linspace(0, len(theta) - 1, min(len(theta), 7)).round().astype(int))
    labels = [_short(period(theta[m])) if theta[m] > 0 else "inf" for m in chosen]
    top.set_xticks(chosen, labels)
    top.set_xlabel(r"period $2\pi/\theta_m$ (positions)")


def _short(number: float) -> str:
    """A number of two digits or more for a tick: 6.3, 38, 2.0k, 438k, 1.2M."""
    scale, unit = next(
        (entry for entry in ((1e6, "M"), (1e3, "k")) if number >= entry[0]), (1.0, "")
    )
    part = number / scale
    return f"{part:.{1 if part < 10 else 0}f}{unit}"


def _period_line(axes: Axes, theta: np.ndarray, length: int, style: Literal["-", ":"]) -> None:
    """A line between the channels whose period is at most `length` and the slower ones."""
    from matplotlib.patheffects import Normal, Stroke

    slowest = period(length)  # frequency and period are each 2 pi over the other
    edge = (theta >= slowest).sum(axis=1) - 0.5
    if (edge == theta.shape[1] - 0.5).all():
        return
    (line,) = axes.plot(
        np.repeat(edge, 2),
        np.stack([np.arange(len(edge)) - 0.5, np.arange(len(edge)) + 0.5], axis=1).ravel(),
        color="white",
        linestyle=style,
        linewidth=1.0,
    )
    line.set_path_effects([Stroke(linewidth=2.2, foreground=INK), Normal()])


def _longer_periods(check: Check, entries: list[Entry]) -> str:
    """How many heads have a dominant channel slower than their text is long."""
    counts = []
    for name in ("dominant_channel", "frequency_dominant_channel"):
        chosen = [entry for entry in entries if entry[name] is not None]
        slow = sum(
            period(_frequencies(check, entry, entry[name] + 1)[-1]) > _tokens(check, entry)
            for entry in chosen
        )
        counts.append(f"{name} on {slow} of {len(chosen)} {head_unit(check)}")
    return f"Its period exceeds the text's length: {', '.join(counts)}."
