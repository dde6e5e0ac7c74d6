"""The figures of a check, drawn from check.json and exemplars.npz alone."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tappa_theory.app.style import (
    COLUMN_WIDTH,
    GUIDE,
    INK,
    KEY_COLOUR,
    PAGE_WIDTH,
    PATTERN_MARKS,
    QUERY_COLOUR,
    THEOREM_MARKS,
    Mark,
    figure_style,
    new_figure,
    number_text,
    save_figure,
    share_text,
)
from tappa_theory.errors import InputError
from tappa_theory.patterns import PATTERNS
from tappa_theory.theorems import SHIFT_THEOREMS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Check = dict[str, Any]
Maps = dict[str, np.ndarray]
Drawing = tuple["Figure", str, str, str]
"""A figure, its title, its caption and what a reader who sees nothing is told."""

FOLDER = "figures"

EXEMPLAR_CELLS = 128
"""Cells of a drawn attention map per side: few enough that a column one key wide can be seen."""
ZOOM = 64
"""Last positions that the inset of an exemplar shows."""
NO_PATTERN = Mark(INK, ".")
"""How a head looks whose text is too short for a pattern."""
LINES_DRAWN = 3
"""Predicted columns and offsets drawn, at most; all would hide the map."""
DECADES = 3
"""Decades that a logarithmic axis shows, at most; what lies below is drawn at its edge."""
FAINTEST = 1e-4
"""Smallest share of attention or energy that has a colour of its own."""


def write_figures(out_dir: Path) -> list[Path]:
    """Draw every figure of the check in `out_dir` into its folder figures; return all files.

    Each figure is NAME.png, NAME.svg and NAME.json {title, caption, alt}. Reads check.json and
    exemplars.npz. Raises InputError if one is missing or damaged, or a file cannot be written.
    """
    folder = Path(out_dir)
    check = _read_check(folder / "check.json")
    maps = _read_maps(folder / "exemplars.npz", check)
    written = []
    for name, draw in FIGURES.items():
        with figure_style():
            figure, title, caption, alt = draw(check, maps)
            full = f"{caption} {conditions(check)}"
            written += save_figure(figure, folder / FOLDER, name, full, alt, title=title)
    return written


def conditions(check: Check) -> str:
    """The sentence that says on what the numbers were measured."""
    model, environment = check["model"], check["environment"]
    texts = "; ".join(
        f"text {text['source']}, {text['tokens']:,} tokens" for text in check["texts"]
    )
    unfinished = "" if check["complete"] else " The run was interrupted: finished layers only."
    return (
        f"Model {model['id']}; {texts or 'no text'}; {environment.get('dtype')} on"
        f" {environment.get('device')}, measured in {environment.get('arithmetic')}.{unfinished}"
    )


def values(entries: list[dict[str, Any]], path: str) -> np.ndarray:
    """(len(entries),) float64: the number at a dotted path of every entry, NaN where it is null."""
    found = []
    for entry in entries:
        value: Any = entry
        for key in path.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        found.append(np.nan if value is None else float(value))
    return np.array(found, dtype=np.float64)


def q_similarity_map(check: Check) -> Drawing:
    """Layer x head maps of adjacent pre-RoPE q-similarity and of the observed pattern."""
    from matplotlib.colors import BoundaryNorm, ListedColormap

    heads = check["heads"]
    similarity = values(heads, "q_similarity.adjacent_pre")
    observed = [head["pattern_observed"] for head in heads]
    codes = np.array([PATTERNS.index(p) if p in PATTERNS else np.nan for p in observed])
    layers, rows = _layers(check), 1 + max((head["head"] for head in heads), default=0)
    height = min(max(0.11 * rows, 0.75), 3.2)
    figure = new_figure(PAGE_WIDTH, 2 * height + 1.4)
    top, bottom = figure.subplots(2, 1, sharex=True)
    extent = (layers[0] - 0.5, layers[-1] + 0.5, rows - 0.5, -0.5)

    image = top.imshow(
        _layer_head(heads, similarity, layers, rows), extent=extent, aspect="auto", cmap="viridis"
    )
    bar = figure.colorbar(image, ax=top, pad=0.01, fraction=0.03)
    bar.set_label("cosine")
    bar.outline.set_visible(False)
    top.set_title("q_similarity.adjacent_pre", loc="left")

    colours = ListedColormap([PATTERN_MARKS[name].colour for name in PATTERNS])
    bottom.imshow(
        _layer_head(heads, codes, layers, rows),
        extent=extent,
        aspect="auto",
        cmap=colours,
        norm=BoundaryNorm(np.arange(len(PATTERNS) + 1) - 0.5, len(PATTERNS)),
    )
    bottom.set_title("pattern_observed", loc="left")
    bottom.set_xlabel("layer")
    for axes in (top, bottom):
        axes.set_ylabel("head")
        _whole_ticks(axes)
        axes.grid(False)
        for edge in np.arange(layers[0], layers[-1]) + 0.5:
            axes.axvline(edge, color="white", linewidth=0.4)
        for edge in np.arange(rows - 1) + 0.5:
            axes.axhline(edge, color="white", linewidth=0.4)
    _mark_patterns(bottom, heads, observed, small=len(heads) > 600)
    _pattern_legend(figure, observed, scatter=False)
    if not np.isfinite(similarity).any():
        _say(top, "no values")
    spread = _range_text(similarity)
    return (
        figure,
        "q-similarity and observed pattern of every head",
        "Top: q_similarity.adjacent_pre, the mean over t of cos(q_t, q_{t+1}) before RoPE, of every"
        f" head ({spread}). Bottom: the pattern that the head's attention map shows"
        f" ({_counts_text(observed)}). Blank cells were not measured.",
        f"Two maps of layers by heads. Adjacent q-similarity: {spread}. Observed patterns:"
        f" {_counts_text(observed)}.",
    )


def q_similarity_layers(check: Check) -> Drawing:
    """Layer means of q- and k-similarity, with the spread of the heads as bands."""
    heads, layers = check["heads"], check["layers"]
    number = values(layers, "layer")
    of_head = values(heads, "layer")
    figure = new_figure(PAGE_WIDTH, 2.5)
    panels = figure.subplots(1, 4, sharex=True, sharey=True)
    names = (
        "q_similarity.adjacent_pre",
        "q_similarity.adjacent_post",
        "q_similarity.all_pairs_pre",
        "k_similarity.adjacent_pre",
    )
    means = []
    for axes, name in zip(panels, names, strict=True):
        colour = KEY_COLOUR if name.startswith("k_") else QUERY_COLOUR
        mean = values(layers, name)
        measured = values(heads, name)
        spread = [measured[(of_head == layer) & np.isfinite(measured)] for layer in number]
        low = [part.min() if part.size else np.nan for part in spread]
        high = [part.max() if part.size else np.nan for part in spread]
        axes.fill_between(number, low, high, color=colour, alpha=0.2, linewidth=0)
        marker = "o" if len(layers) < 3 else None
        axes.plot(number, mean, color=colour, marker=marker)
        axes.set_title(name, loc="left", fontsize=7)
        axes.set_xlabel("layer")
        axes.grid(axis="y", color="#dddddd", linewidth=0.5)
        axes.set_axisbelow(True)
        _whole_ticks(axes)
        finite = mean[np.isfinite(mean)]
        means.append(f"{name} {number_text(float(finite.mean()) if finite.size else None)}")
        if not finite.size:
            _say(axes, "no values")
    panels[0].set_ylabel("cosine")
    return (
        figure,
        "Similarity of queries and keys by layer",
        "Lines: mean over the heads of each layer; bands: from the lowest to the highest head."
        " adjacent: mean over t of the cosine of neighbours t, t+1; all_pairs: mean over all s, t"
        " with s different from t; pre and post: before and after RoPE. Means over the layers:"
        f" {', '.join(means)}.",
        f"Four curves against layer. Means over the layers: {', '.join(means)}.",
    )


def exemplars(check: Check, maps: Maps) -> Drawing:
    """One real head per observed pattern, its predicted features drawn over its attention map."""
    entries = check["exemplars"]
    shown = [entry["pattern"] for entry in entries]
    absent = [name for name in PATTERNS if name not in shown]
    across = min(max(len(entries), 1), 3)
    down = -(-max(len(entries), 1) // across)
    figure = new_figure(
        PAGE_WIDTH if across > 1 else COLUMN_WIDTH, 2.15 * down + 0.35 if entries else 0.8
    )
    # Square maps leave room between them that only this engine closes.
    figure.set_layout_engine("compressed")
    panels = figure.subplots(down, across, squeeze=False).ravel()
    handles: dict[str, Any] = {}
    texts = []
    for axes, entry in zip(panels, entries, strict=False):
        image = _exemplar(axes, entry, maps[entry["map"]], handles)
        texts.append(_exemplar_text(entry, _head_of(check, entry)))
    for axes in panels[max(len(entries), 1) :]:
        axes.set_axis_off()
    if not entries:
        panels[0].set_axis_off()
        _say(panels[0], "no head has an observed pattern")
    else:
        bar = figure.colorbar(image, ax=list(panels), shrink=0.8, pad=0.01, extend="min")
        bar.set_label("attention (share of a row)")
        bar.outline.set_visible(False)
    if handles:
        figure.legend(
            list(handles.values()), list(handles), loc="outside lower center", ncols=len(handles)
        )
    missing = f" Shown by no head: {', '.join(absent)}." if absent else ""
    caption = (
        "For each observed pattern the head that shows it most clearly; the colour of a cell is its"
        f" largest entry, insets show the last {ZOOM} positions. Drawn over it, where predicted"
        f" from queries, keys and RoPE alone: at most {LINES_DRAWN} columns and offsets t - i,"
        f" spacing and lag. {' '.join(texts)}{missing}"
    )
    alt = f"Attention maps of {len(entries)} heads. {' '.join(texts)}{missing}"
    return figure, "One real head per observed pattern", caption, alt


def confusion(check: Check) -> Drawing:
    """Counts of heads by predicted and observed pattern."""
    summary = check["summary"].get("patterns") or {}
    table = summary.get("confusion") or {}
    counts = np.array(
        [[(table.get(row) or {}).get(column) or 0 for column in PATTERNS] for row in PATTERNS]
    )
    figure = new_figure(COLUMN_WIDTH + 0.9, 3.3)
    axes = figure.subplots()
    top = max(int(counts.max()), 1)
    axes.imshow(np.sqrt(counts / top), cmap="Blues", vmin=0, vmax=1.15, aspect="equal")
    for row, column in np.ndindex(counts.shape):
        count = int(counts[row, column])
        axes.text(
            column,
            row,
            str(count),
            ha="center",
            va="center",
            color="white" if count / top > 0.4 else INK if count else "#b0b0b0",
            fontweight="bold" if row == column and count else "normal",
        )
    for index in range(len(PATTERNS)):
        outline = (index - 0.5, index - 0.5)
        axes.add_patch(_box(outline, 1, 1))
        axes.text(len(PATTERNS) - 0.35, index, str(counts[index].sum()), va="center", color=GUIDE)
        axes.text(index, len(PATTERNS) - 0.2, str(counts[:, index].sum()), ha="center", color=GUIDE)
    axes.text(len(PATTERNS) - 0.35, len(PATTERNS) - 0.2, str(counts.sum()), color=GUIDE)
    axes.set_xticks(range(len(PATTERNS)), PATTERNS, rotation=30, ha="left", rotation_mode="anchor")
    axes.set_yticks(range(len(PATTERNS)), PATTERNS)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xlabel("pattern_observed (heads)")
    axes.set_ylabel("pattern_predicted (heads)")
    kappa = number_text(summary.get("cohen_kappa"))
    text = (
        f"agreement {share_text(summary.get('agreement'))} of {summary.get('heads') or 0} heads,"
        f" Cohen's kappa {kappa}. Always the commonest pattern:"
        f" {share_text(summary.get('majority_agreement'))} (kappa 0); the paper's own rule:"
        f" {share_text(summary.get('published_agreement'))} (kappa"
        f" {number_text(summary.get('published_cohen_kappa'))})."
    )
    return (
        figure,
        "Predicted against observed pattern",
        "Heads by the pattern predicted from similarities, norms and channel energies (rows) and by"
        f" the pattern seen in the attention map (columns); grey: totals. Here {text}",
        f"Table of five patterns by five: {text}",
    )


def observed_bound(check: Check) -> Drawing:
    """Observed logit differences against the bound, one panel per theorem."""
    figure = new_figure(PAGE_WIDTH, 5.4)
    panels = figure.subplots(2, 2, sharex=True, sharey=True).ravel()
    applicable = {
        name: [head for head in check["heads"] if head["theorems"][name]["applicable"]]
        for name in SHIFT_THEOREMS
    }
    points = {
        (name, kind): _bound_and_observed(heads, name, kind)
        for name, heads in applicable.items()
        for kind in ("mean", "worst")
    }
    low, high = _log_range(np.concatenate([part.ravel() for part in points.values()]))
    texts, at_edge = [], 0
    for axes, name in zip(panels, SHIFT_THEOREMS, strict=True):
        mark = THEOREM_MARKS[name]
        axes.plot([low, high], [low, high], color=GUIDE, linestyle="--", linewidth=0.8, zorder=0)
        mean, worst = points[name, "mean"], points[name, "worst"]
        style = {"marker": mark.marker, "clip_on": False}
        axes.scatter(
            *np.maximum(worst, low), s=12, facecolors="none", edgecolors=mark.colour,
            linewidths=0.5, **style,
        )  # fmt: skip
        axes.scatter(
            *np.maximum(mean, low), s=10, facecolors=mark.colour, edgecolors="white",
            linewidths=0.2, **style,
        )  # fmt: skip
        at_edge += int((worst < low).any(axis=0).sum() + (mean < low).any(axis=0).sum())
        summary = (check["summary"].get("theorems") or {}).get(name) or {}
        ratio, informative = summary.get("max_ratio"), summary.get("informative")
        axes.set_title(name, loc="left", fontweight="bold")
        axes.text(
            0.03,
            0.97,
            f"max_ratio {number_text(ratio)}\ninformative {share_text(informative)} of pairs",
            transform=axes.transAxes,
            va="top",
            fontsize=7,
        )
        if not mean.size and not worst.size:
            _say(axes, "no values" if applicable[name] else "applies to no head")
        texts.append(
            f"{name}: {len(applicable[name])} heads, max_ratio {number_text(ratio)}, informative"
            f" {share_text(informative)} of {number_text(summary.get('pairs'))} pairs."
        )
        _log_axes(axes)
        axes.set_xlim(low, high)
        axes.set_ylim(low, high)
    for axes in panels[2:]:
        axes.set_xlabel("bound (logits)")
    for axes in panels[::2]:
        axes.set_ylabel("observed |logit difference| (logits)")
    figure.legend(
        [_handle("o", GUIDE, GUIDE), _handle("o", "none", GUIDE), _line_handle(GUIDE, "--")],
        ["mean over all pairs of a head", "pair of largest ratio of a head", "observed = bound"],
        loc="outside lower center",
        ncols=3,
    )
    return (
        figure,
        "Observed logit differences against their bound",
        "One filled and one open point per applicable head, over every visible causal pair. A"
        " triangle inequality cannot be crossed; what counts is the distance from the line."
        " informative: share of pairs whose bound lies below the row's logit standard deviation."
        f" {' '.join(texts)}{_edge_text(at_edge)}",
        f"Four scatter plots of observed against bound on logarithmic axes. {' '.join(texts)}",
    )


def channel_spectra(check: Check) -> Drawing:
    """Share of energy per RoPE channel and head, plain and weighted by frequency."""
    from matplotlib import colormaps
    from matplotlib.colors import LogNorm

    heads = sorted(
        (head for head in check["heads"] if head["channel_energy"]),
        key=lambda head: (head["layer"], head["head"]),
    )
    channels = max((len(head["channel_energy"]) for head in heads), default=1)
    energy = np.zeros((max(len(heads), 1), channels))
    theta = np.zeros_like(energy)
    for row, head in enumerate(heads):
        energy[row, : len(head["channel_energy"])] = head["channel_energy"]
        frequencies = _frequencies(check, head["layer"])
        theta[row, : len(frequencies)] = frequencies
    tokens = max((text["tokens"] for text in check["texts"]), default=0)
    context = check["model"].get("context_length")
    figure = new_figure(PAGE_WIDTH, 3.9)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, weight, name in (
        (panels[0], np.ones_like(theta), r"energy $A_m$ = mean $|z_m||w_m|$"),
        (panels[1], theta, r"frequency-weighted $\theta_m A_m$"),
    ):
        image = axes.imshow(
            _shares(energy * weight),
            aspect="auto",
            cmap=colormaps["viridis"],
            norm=LogNorm(FAINTEST, 1.0),
            extent=(-0.5, channels - 0.5, len(energy) - 0.5, -0.5),
        )
        axes.set_title(name, loc="left")
        axes.set_xlabel("RoPE channel m")
        if heads:
            _period_axis(axes, theta[0])
            _period_line(axes, theta, tokens, "-")
            if context:
                _period_line(axes, theta, context, ":")
        else:
            image.set_visible(False)
            _say(axes, "no values")
    first = [
        row for row, h in enumerate(heads) if row == 0 or h["layer"] != heads[row - 1]["layer"]
    ]
    step = max(len(first) // 10, 1)
    panels[0].set_yticks(
        [row - 0.5 for row in first[::step]], [str(heads[row]["layer"]) for row in first[::step]]
    )
    panels[0].set_ylabel("layer (its heads below each other)")
    bar = figure.colorbar(image, ax=list(panels), shrink=0.8, pad=0.01, extend="min")
    bar.set_label("share of the head's sum")
    bar.outline.set_visible(False)
    handles = [_line_handle("white", "-", INK)]
    labels = [f"period = the {tokens:,} tokens of the text"]
    if context:
        handles.append(_line_handle("white", ":", INK))
        labels.append(f"period = context length {context:,}")
    if heads:
        figure.legend(handles, labels, loc="outside lower center", ncols=2)
    longer = _longer_periods(heads, theta, tokens)
    ropes = "; ".join(
        f"{rope['type']}, base {number_text(rope['base'])}, {len(rope['layers'])} layers"
        for rope in check["model"]["rope"]
    )
    return (
        figure,
        "RoPE-channel spectra",
        "Share of each RoPE channel in the energy of every head, plain and weighted by frequency;"
        " one row per head. Top axis: the period 2 pi / theta of the channel (of the first head's"
        f" RoPE), positions. RoPE: {ropes}. {longer}",
        f"Two heat maps of heads by RoPE channels. {longer}",
    )


def drift_kl(check: Check) -> Drawing:
    """Observed divergence of neighbouring rows against two measures of query drift."""
    heads = check["heads"]
    kl = values(heads, "drift.kl")
    cosine = 1 - values(heads, "q_similarity.adjacent_post")
    metric = values(heads, "drift.key_metric")
    patterns = [head["pattern_observed"] for head in heads]
    figure = new_figure(PAGE_WIDTH, 3.1)
    left, right = figure.subplots(1, 2, sharey=True)
    at_edge = 0
    for axes, drift in ((left, cosine), (right, metric)):
        keep = _positive(drift, kl)
        (low, high), (bottom, top) = _log_range(drift[keep]), _log_range(kl[keep])
        x, y = np.maximum(drift, low), np.maximum(kl, bottom)
        at_edge += int((keep & ((drift < low) | (kl < bottom))).sum())
        for name in (*PATTERNS, None):
            chosen = keep & np.array([pattern == name for pattern in patterns], dtype=bool)
            mark = PATTERN_MARKS[name] if name is not None else NO_PATTERN
            axes.scatter(
                x[chosen], y[chosen], s=14, marker=mark.marker, color=mark.colour,
                edgecolors="white", linewidths=0.3, clip_on=False, zorder=3,
            )  # fmt: skip
        axes.set_xlim(low, high)
        axes.set_ylim(bottom, top)
        _log_axes(axes)
        if not keep.any():
            _say(axes, "no values")
        elif axes is right:
            ends = (max(low, bottom), min(high, top))
            axes.plot(ends, ends, color=GUIDE, linestyle="--", linewidth=0.8)
    left.set_xlabel("1 - q_similarity.adjacent_post (cosine)")
    right.set_xlabel("drift.key_metric, second-order KL (nats)")
    left.set_ylabel(r"drift.kl, mean KL($P_t$ || $P_{t+1}$) (nats)")
    _pattern_legend(figure, patterns, scatter=True)
    summary = check["summary"].get("drift") or {}
    text = (
        "Spearman rank correlation with drift.kl across heads: q_similarity.adjacent_post"
        f" {number_text(summary.get('heads_spearman_q_similarity_kl'))}, key_metric"
        f" {number_text(summary.get('heads_spearman_key_metric_kl'))}; over the steps of a head,"
        f" median of the heads: cosine drift {number_text(summary.get('spearman_cosine_kl'))},"
        f" key_metric {number_text(summary.get('spearman_key_metric_kl'))}."
    )
    return (
        figure,
        "Query drift against the change of attention",
        "Mean divergence of a row of attention from the next, per head, against plain query drift"
        " (left) and query drift in the metric of the attended keys (right; dashed: equal)."
        f" {text}{_edge_text(at_edge)}",
        f"Two scatter plots on logarithmic axes. {text}",
    )


FIGURES: dict[str, Callable[[Check, Maps], Drawing]] = {
    "q_similarity_map": lambda check, _: q_similarity_map(check),
    "q_similarity_layers": lambda check, _: q_similarity_layers(check),
    "exemplars": exemplars,
    "confusion": lambda check, _: confusion(check),
    "observed_bound": lambda check, _: observed_bound(check),
    "channel_spectra": lambda check, _: channel_spectra(check),
    "drift_kl": lambda check, _: drift_kl(check),
}
"""Every figure by its name."""


def _read_check(path: Path) -> Check:
    if not path.is_file():
        raise InputError(f"{path} is missing; run `tappa check` into that folder first")
    try:
        check = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); run `tappa check` again") from error
    if not isinstance(check, dict) or check.get("schema") != 1:
        raise InputError(f"{path} is not a check.json of schema 1; run `tappa check` again")
    return check


def _read_maps(path: Path, check: Check) -> Maps:
    if not path.is_file():
        raise InputError(f"{path} is missing; run `tappa check` into that folder first")
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {entry["map"]: stored[entry["map"]] for entry in check["exemplars"]}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path} does not hold the maps of check.json ({error}); run `tappa check` again"
        ) from error


def _layers(check: Check) -> list[int]:
    numbers = [head["layer"] for head in check["heads"]]
    return list(range(min(numbers), max(numbers) + 1)) if numbers else [0]


def _layer_head(
    heads: list[dict[str, Any]], numbers: np.ndarray, layers: list[int], rows: int
) -> np.ndarray:
    grid = np.full((rows, len(layers)), np.nan)
    for head, number in zip(heads, numbers, strict=True):
        grid[head["head"], head["layer"] - layers[0]] = number
    return grid


def _whole_ticks(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
    if axes.get_ylabel() == "head":
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5, min_n_ticks=1))


def _mark_patterns(
    axes: Axes, heads: list[dict[str, Any]], observed: list[str | None], small: bool
) -> None:
    for name in PATTERNS:
        chosen = [head for head, seen in zip(heads, observed, strict=True) if seen == name]
        axes.scatter(
            [head["layer"] for head in chosen],
            [head["head"] for head in chosen],
            s=2 if small else 6,
            marker=PATTERN_MARKS[name].marker,
            color="white",
            linewidths=0,
        )


def _pattern_legend(figure: Figure, observed: list[str | None], scatter: bool) -> None:
    present = [name for name in PATTERNS if name in observed]
    if not present:
        return
    handles = []
    for name in present:
        mark = PATTERN_MARKS[name]
        handles.append(
            _handle(mark.marker, mark.colour, "none")
            if scatter
            else _handle(mark.marker, "white", mark.colour, patch=mark.colour)
        )
    labels = [f"{name} ({observed.count(name)})" for name in present]
    figure.legend(handles, labels, loc="outside lower center", ncols=len(present))


def _handle(marker: str, face: str, edge: str, patch: str | None = None) -> Any:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    point = Line2D(
        [], [], linestyle="none", marker=marker, markersize=4.5, markerfacecolor=face,
        markeredgecolor=edge, markeredgewidth=0.6,
    )  # fmt: skip
    return point if patch is None else (Patch(facecolor=patch), point)


def _line_handle(colour: str, style: Literal["-", "--", ":"], outline: str | None = None) -> Any:
    from matplotlib.lines import Line2D
    from matplotlib.patheffects import Normal, Stroke

    line = Line2D([], [], color=colour, linestyle=style, linewidth=1.0)
    if outline is not None:
        line.set_path_effects([Stroke(linewidth=2.2, foreground=outline), Normal()])
    return line


def _box(corner: tuple[float, float], width: float, height: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(corner, width, height, fill=False, edgecolor=INK, linewidth=0.7)


def _say(axes: Axes, text: str) -> None:
    axes.text(
        0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=GUIDE,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 3},
    )  # fmt: skip


def _positive(*columns: np.ndarray) -> np.ndarray:
    """(n,) bool: where every column is a number above zero, as a logarithmic axis needs."""
    return np.logical_and.reduce([np.isfinite(c) & (np.nan_to_num(c) > 0) for c in columns])


def _bound_and_observed(
    heads: list[dict[str, Any]], name: str, kind: Literal["mean", "worst"]
) -> np.ndarray:
    """(2, n) bounds and observed differences of the heads that have both, in logits."""
    paths = ("mean_bound", "mean_observed") if kind == "mean" else ("worst.bound", "worst.observed")
    both = np.stack([values(heads, f"theorems.{name}.{path}") for path in paths])
    return both[:, _positive(*both)]


def _log_range(numbers: np.ndarray) -> tuple[float, float]:
    """Ends of a logarithmic axis around the numbers that lie at most DECADES below the largest."""
    if not numbers.size:
        return 0.1, 10.0
    near = numbers[numbers >= numbers.max() / 10**DECADES]
    return float(near.min()) / 1.6, float(near.max()) * 1.6


def _log_axes(axes: Axes) -> None:
    """Logarithmic axes with few ticks, labelled as plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        narrow = high / low < 50
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if narrow else (1.0,)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.grid(color="#e4e4e4", linewidth=0.4)
    axes.set_axisbelow(True)


def _edge_text(count: int) -> str:
    return f" {count} points below the axes are drawn at their edge." if count else ""


def _range_text(numbers: np.ndarray) -> str:
    finite = numbers[np.isfinite(numbers)]
    if not finite.size:
        return "no values"
    low, mean, high = (number_text(float(v)) for v in (finite.min(), finite.mean(), finite.max()))
    return f"mean {mean}, from {low} to {high}"


def _counts_text(observed: list[str | None]) -> str:
    return ", ".join(f"{name} {observed.count(name)}" for name in PATTERNS)


def _head_of(check: Check, entry: dict[str, Any]) -> dict[str, Any]:
    place = (entry["layer"], entry["head"])
    found = (head for head in check["heads"] if (head["layer"], head["head"]) == place)
    head: dict[str, Any] = next(found, {})
    return head


def _exemplar(
    axes: Axes, entry: dict[str, Any], attention: np.ndarray, handles: dict[str, Any]
) -> Any:
    block, length = entry["block"], entry["block"] * len(attention)
    coarse = _coarser(attention)
    image = _draw_map(axes, coarse, (0, length))
    axes.set_title(
        f"layer {entry['layer']}, head {entry['head']}\nobserved: {entry['pattern']}"
        f"\npredicted: {entry['predicted']}",
        loc="left",
        fontsize=7,
    )
    axes.set_xlabel("key position i")
    axes.set_ylabel("query position t")
    axes.set_aspect("equal")
    _draw_features(axes, entry, (0, length), handles)
    # A column at key 0 must not be hidden by the axis.
    axes.set_xlim(-0.02 * length, length)
    cells = ZOOM // block
    zoomed = attention[len(attention) - cells :, len(attention) - cells :]
    if cells >= 8 and len(attention) > 3 * cells and zoomed.max() >= FAINTEST:
        inset = axes.inset_axes((0.52, 0.52, 0.48, 0.48))
        start = length - cells * block
        _draw_map(inset, zoomed, (start, length))
        _draw_features(inset, entry, (start, length), handles)
        inset.set_xticks([])
        inset.set_yticks([])
        for spine in inset.spines.values():
            spine.set_visible(True)
            spine.set_linewidth(0.5)
            spine.set_color(GUIDE)
    return image


def _coarser(attention: np.ndarray) -> np.ndarray:
    """The map with at most EXEMPLAR_CELLS cells per side, each the largest entry under it."""
    step = -(-len(attention) // EXEMPLAR_CELLS)
    side = -(-len(attention) // step)
    padded = np.zeros((side * step, side * step), dtype=attention.dtype)
    padded[: len(attention), : len(attention)] = attention
    return padded.reshape(side, step, side, step).max(axis=(1, 3))


def _draw_map(axes: Axes, attention: np.ndarray, span: tuple[int, int]) -> Any:
    from matplotlib import colormaps
    from matplotlib.colors import LogNorm

    start, stop = span
    rows, columns = np.indices(attention.shape)
    shown = np.ma.masked_array(np.maximum(attention, FAINTEST / 10), mask=columns > rows)
    image = axes.imshow(
        shown,
        extent=(start - 0.5, stop - 0.5, stop - 0.5, start - 0.5),
        cmap=colormaps["Greys"],
        norm=LogNorm(FAINTEST, 1.0),
    )
    axes.set_xlim(start - 0.5, stop - 0.5)
    axes.set_ylim(stop - 0.5, start - 0.5)
    return image


def _draw_features(
    axes: Axes, entry: dict[str, Any], span: tuple[int, int], handles: dict[str, Any]
) -> None:
    """The predicted lines of a head that fall into the positions `span` of an attention map."""
    start, stop = span
    reach = stop - start
    # A feature has the colour of the pattern that it makes.
    column_colour = PATTERN_MARKS["re_access"].colour
    offset_colour = PATTERN_MARKS["sequential"].colour
    spacing_colour = PATTERN_MARKS["periodic_sequential"].colour
    lag_colour = PATTERN_MARKS["seasonal"].colour
    for column in entry["columns"][:LINES_DRAWN]:
        if start <= column < stop:
            axes.plot(
                [column], [1.0], marker="v", markersize=4, color=column_colour, clip_on=False,
                transform=axes.get_xaxis_transform(), linestyle="none",
            )  # fmt: skip
            axes.axvline(column, color=column_colour, linewidth=0.6, linestyle=(0, (3, 7)))
            handles["predicted column"] = _handle("v", column_colour, column_colour)
    for offset in entry["offsets"][:LINES_DRAWN]:
        if offset < reach:
            axes.plot(
                [start, stop - offset], [start + offset, stop], color=offset_colour,
                linewidth=0.6, linestyle=(0, (4, 4)),
            )  # fmt: skip
            handles["predicted offset t - i"] = _line_handle(offset_colour, "--")
    spacing = entry["spacing"]
    if spacing is not None and spacing > 0:
        first = min(entry["offsets"], default=0)
        for step in range(1, LINES_DRAWN + 1):
            offset = first + step * spacing
            if offset < reach:
                axes.plot(
                    [start, stop - offset], [start + offset, stop], color=spacing_colour,
                    linewidth=0.6, linestyle=":",
                )  # fmt: skip
                handles["predicted spacing"] = _line_handle(spacing_colour, ":")
    lag = entry["lag"]
    if lag is not None and lag < reach:
        middle = start + (reach - lag) / 2
        axes.annotate(
            "", (start + reach * 0.06, middle + lag), (start + reach * 0.06, middle),
            arrowprops={
                "arrowstyle": "<->", "color": lag_colour, "linewidth": 1.2,
                "shrinkA": 0, "shrinkB": 0, "mutation_scale": 5,
            },
        )  # fmt: skip
        handles["predicted lag"] = _line_handle(lag_colour, "-")


def _exemplar_text(entry: dict[str, Any], head: dict[str, Any]) -> str:
    scores = head.get("pattern_scores") or {}
    seen, expected = scores.get("observed") or {}, scores.get("predicted") or {}
    shares = ", ".join(
        f"{name} {share_text(seen.get(name))} (predicted {share_text(expected.get(name))})"
        for name in ("column", "diagonal", "season")
    )
    similarity = (head.get("q_similarity") or {}).get("adjacent_pre")
    extra = "".join(
        f", predicted {name} {number_text(entry[name])} positions"
        for name in ("spacing", "lag")
        if entry[name] is not None
    )
    return (
        f"{entry['pattern']}, layer {entry['layer']}, head {entry['head']}: attention on {shares};"
        f" q_similarity.adjacent_pre {number_text(similarity)}; predicted pattern"
        f" {entry['predicted']}{extra}."
    )


def _frequencies(check: Check, layer: int) -> list[float]:
    for rope in check["model"]["rope"]:
        if layer in rope["layers"]:
            frequencies: list[float] = rope.get("frequencies") or []
            return frequencies
    return []


def _shares(energy: np.ndarray) -> np.ndarray:
    """Each row over its sum; what is fainter than the colours reach is drawn faintest."""
    total = energy.sum(axis=1, keepdims=True)
    share = energy / np.where(total > 0, total, 1.0)
    return np.maximum(share, FAINTEST / 10)


def _period_axis(axes: Axes, theta: np.ndarray) -> None:
    """A second axis at the top that names the period of some channels, in positions."""
    top = axes.secondary_xaxis("top")
    chosen = np.unique(np.linspace(0, len(theta) - 1, min(len(theta), 7)).round().astype(int))
    labels = [_short(2 * np.pi / theta[m]) if theta[m] > 0 else "inf" for m in chosen]
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

    edge = (theta * length >= 2 * np.pi).sum(axis=1) - 0.5
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


def _longer_periods(heads: list[dict[str, Any]], theta: np.ndarray, tokens: int) -> str:
    """How many heads have a dominant channel slower than the text is long."""
    counts = []
    for name in ("dominant_channel", "frequency_dominant_channel"):
        chosen = [(row, head[name]) for row, head in enumerate(heads) if head[name] is not None]
        slow = sum(theta[row, channel] * tokens < 2 * np.pi for row, channel in chosen)
        counts.append(f"{name} on {slow} of {len(chosen)} heads")
    return f"Its period exceeds the text's length: {', '.join(counts)}."
