"""The figures over all heads of a check, each drawn from check.json alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gpu_check.figure_parts import (
    Check,
    Drawing,
    counts_text,
    edge_text,
    handle,
    line_handle,
    log_axes,
    log_range,
    pattern_legend,
    positive,
    range_text,
    say,
    values,
    whole_ticks,
)
from gpu_check.over_texts import (
    Entry,
    differing,
    head_unit,
    heads_over_texts,
    means_text,
    patterns_text,
    text_count,
)
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
    new_figure,
    number_text,
    share_text,
)
from tappa_theory.patterns import PATTERNS
from tappa_theory.theorems import SHIFT_THEOREMS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NO_PATTERN = Mark(INK, ".")
"""How a head looks whose text is too short for a pattern."""


def q_similarity_map(check: Check) -> Drawing:
    """Layer x head maps of adjacent pre-RoPE q-similarity and of the observed pattern."""
    from matplotlib.colors import BoundaryNorm, ListedColormap

    heads = heads_over_texts(check)
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
        whole_ticks(axes)
        axes.grid(False)
        for edge in np.arange(layers[0], layers[-1]) + 0.5:
            axes.axvline(edge, color="white", linewidth=0.4)
        for edge in np.arange(rows - 1) + 0.5:
            axes.axhline(edge, color="white", linewidth=0.4)
    _mark_patterns(bottom, heads, observed, small=len(heads) > 600)
    _mark_differing(bottom, heads)
    pattern_legend(figure, observed, scatter=False, differing=differing(heads))
    if not np.isfinite(similarity).any():
        say(top, "no values")
    spread = range_text(similarity)
    return (
        figure,
        "q-similarity and observed pattern of every head",
        "Top: q_similarity.adjacent_pre, the mean over t of cos(q_t, q_{t+1}) before RoPE, of every"
        f" head ({spread}). Bottom: the pattern that the head's attention map shows"
        f" ({counts_text(observed)}). Blank cells were not measured.{means_text(check)}"
        + patterns_text(check, heads, "the cell's corner has the colour of the next commonest"),
        f"Two maps of layers by heads. Adjacent q-similarity: {spread}. Observed patterns:"
        f" {counts_text(observed)}.",
    )


def q_similarity_layers(check: Check) -> Drawing:
    """Layer means of q- and k-similarity, with the spread of the heads as bands."""
    heads, layers = heads_over_texts(check), check["layers"]
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
        whole_ticks(axes)
        finite = mean[np.isfinite(mean)]
        means.append(f"{name} {number_text(float(finite.mean()) if finite.size else None)}")
        if not finite.size:
            say(axes, "no values")
    panels[0].set_ylabel("cosine")
    return (
        figure,
        "Similarity of queries and keys by layer",
        "Lines: mean over the heads of each layer; bands: from the lowest to the highest head."
        f"{means_text(check)}"
        " adjacent: mean over t of the cosine of neighbours t, t+1; all_pairs: mean over all s, t"
        " with s different from t; pre and post: before and after RoPE. Means over the layers:"
        f" {', '.join(means)}.",
        f"Four curves against layer. Means over the layers: {', '.join(means)}.",
    )


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
    unit = head_unit(check)
    axes.set_xlabel(f"pattern_observed ({unit})")
    axes.set_ylabel(f"pattern_predicted ({unit})")
    kappa = number_text(summary.get("cohen_kappa"))
    text = (
        f"agreement {share_text(summary.get('agreement'))} of {summary.get('heads') or 0} {unit},"
        f" Cohen's kappa {kappa}. Always the commonest pattern:"
        f" {share_text(summary.get('majority_agreement'))} (kappa 0); the paper's own rule:"
        f" {share_text(summary.get('published_agreement'))} (kappa"
        f" {number_text(summary.get('published_cohen_kappa'))})."
    )
    count = text_count(check)
    each_text = f" A head counts once for each of {count} texts." if count > 1 else ""
    return (
        figure,
        "Predicted against observed pattern",
        "Heads by the pattern predicted from similarities, norms and channel energies (rows) and by"
        f" the pattern seen in the attention map (columns); grey: totals.{each_text} Here {text}",
        f"Table of five patterns by five: {text}",
    )


def observed_bound(check: Check) -> Drawing:
    """Observed logit differences against the bound, one panel per theorem."""
    figure = new_figure(PAGE_WIDTH, 5.4)
    panels = figure.subplots(2, 2, sharex=True, sharey=True).ravel()
    heads = heads_over_texts(check)
    applicable = {
        name: [head for head in heads if head["theorems"][name]["applicable"]]
        for name in SHIFT_THEOREMS
    }
    points = {
        (name, kind): _bound_and_observed(heads, name, kind)
        for name, heads in applicable.items()
        for kind in ("mean", "worst")
    }
    low, high = log_range(np.concatenate([part.ravel() for part in points.values()]))
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
            say(axes, "no values" if applicable[name] else "applies to no head")
        texts.append(
            f"{name}: {len(applicable[name])} heads, max_ratio {number_text(ratio)}, informative"
            f" {share_text(informative)} of {number_text(summary.get('pairs'))} pairs."
        )
        log_axes(axes)
        axes.set_xlim(low, high)
        axes.set_ylim(low, high)
    for axes in panels[2:]:
        axes.set_xlabel("bound (logits)")
    for axes in panels[::2]:
        axes.set_ylabel("observed |logit difference| (logits)")
    figure.legend(
        [handle("o", GUIDE, GUIDE), handle("o", "none", GUIDE), line_handle(GUIDE, "--")],
        ["mean over all pairs of a head", "pair of largest ratio of a head", "observed = bound"],
        loc="outside lower center",
        ncols=3,
    )
    count = text_count(check)
    of_texts = (
        f" Of {count} texts: a filled point is a mean over those to which the theorem applies, an"
        " open one the pair of the largest ratio on any; max_ratio and informative are over all."
        if count > 1
        else ""
    )
    return (
        figure,
        "Observed logit differences against their bound",
        "One filled and one open point per applicable head, over every visible causal pair. A"
        " triangle inequality cannot be crossed; what counts is the distance from the line."
        " informative: share of pairs whose bound lies below the row's logit standard deviation."
        f"{of_texts} {' '.join(texts)}{edge_text(at_edge)}",
        f"Four scatter plots of observed against bound on logarithmic axes. {' '.join(texts)}",
    )


def drift_kl(check: Check) -> Drawing:
    """Observed divergence of neighbouring rows against two measures of query drift."""
    heads = heads_over_texts(check)
    kl = values(heads, "drift.kl")
    cosine = 1 - values(heads, "q_similarity.adjacent_post")
    metric = values(heads, "drift.key_metric")
    patterns = [head["pattern_observed"] for head in heads]
    differ = np.array([head["pattern_other"] is not None for head in heads], dtype=bool)
    figure = new_figure(PAGE_WIDTH, 3.1)
    left, right = figure.subplots(1, 2, sharey=True)
    at_edge = 0
    for axes, drift in ((left, cosine), (right, metric)):
        keep = positive(drift, kl)
        (low, high), (bottom, top) = log_range(drift[keep]), log_range(kl[keep])
        x, y = np.maximum(drift, low), np.maximum(kl, bottom)
        at_edge += int((keep & ((drift < low) | (kl < bottom))).sum())
        for name in (*PATTERNS, None):
            chosen = keep & np.array([pattern == name for pattern in patterns], dtype=bool)
            mark = PATTERN_MARKS[name] if name is not None else NO_PATTERN
            for part, edge, width in (
                (chosen & ~differ, "white", 0.3),
                (chosen & differ, INK, 0.7),
            ):
                axes.scatter(
                    x[part], y[part], s=14, marker=mark.marker, color=mark.colour,
                    edgecolors=edge, linewidths=width, clip_on=False, zorder=3,
                )  # fmt: skip
        axes.set_xlim(low, high)
        axes.set_ylim(bottom, top)
        log_axes(axes)
        if not keep.any():
            say(axes, "no values")
        elif axes is right:
            ends = (max(low, bottom), min(high, top))
            axes.plot(ends, ends, color=GUIDE, linestyle="--", linewidth=0.8)
    left.set_xlabel("1 - q_similarity.adjacent_post (cosine)")
    right.set_xlabel("drift.key_metric, second-order KL (nats)")
    left.set_ylabel(r"drift.kl, mean KL($P_t$ || $P_{t+1}$) (nats)")
    pattern_legend(figure, patterns, scatter=True, differing=int(differ.sum()))
    summary = check["summary"].get("drift") or {}
    unit = head_unit(check)
    text = (
        f"Spearman rank correlation with drift.kl across {unit}: q_similarity.adjacent_post"
        f" {number_text(summary.get('heads_spearman_q_similarity_kl'))}, key_metric"
        f" {number_text(summary.get('heads_spearman_key_metric_kl'))}; over the steps of a head,"
        f" median of the {unit}: cosine drift {number_text(summary.get('spearman_cosine_kl'))},"
        f" key_metric {number_text(summary.get('spearman_key_metric_kl'))}."
    )
    return (
        figure,
        "Query drift against the change of attention",
        "Mean divergence of a row of attention from the next, per head, against plain query drift"
        " (left) and query drift in the metric of the attended keys (right; dashed: equal)."
        f"{means_text(check)}{patterns_text(check, heads, 'dark outline')}"
        f" {text}{edge_text(at_edge)}",
        f"Two scatter plots on logarithmic axes. {text}",
    )


def _layers(check: Check) -> list[int]:
    numbers = [head["layer"] for head in check["heads"]]
    return list(range(min(numbers), max(numbers) + 1)) if numbers else [0]


def _layer_head(
    heads: list[Entry], numbers: np.ndarray, layers: list[int], rows: int
) -> np.ndarray:
    grid = np.full((rows, len(layers)), np.nan)
    for head, number in zip(heads, numbers, strict=True):
        grid[head["head"], head["layer"] - layers[0]] = number
    return grid


def _mark_patterns(axes: Axes, heads: list[Entry], observed: list[str | None], small: bool) -> None:
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


def _mark_differing(axes: Axes, heads: list[Entry]) -> None:
    """A corner in the colour of the next commonest pattern, where texts show different ones."""
    from matplotlib.patches import Polygon

    for head in heads:
        if head["pattern_other"] in PATTERN_MARKS:
            right, bottom = head["layer"] + 0.5, head["head"] + 0.5
            corners = [(right, bottom), (right - 0.45, bottom), (right, bottom - 0.9)]
            axes.add_patch(
                Polygon(
                    corners,
                    facecolor=PATTERN_MARKS[head["pattern_other"]].colour,
                    edgecolor="white",
                    linewidth=0.5,
                )
            )


def _box(corner: tuple[float, float], width: float, height: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(corner, width, height, fill=False, edgecolor=INK, linewidth=0.7)


def _bound_and_observed(
    heads: list[Entry], name: str, kind: Literal["mean", "worst"]
) -> np.ndarray:
    """(2, n) bounds and observed differences of the heads that have both, in logits."""
    paths = ("mean_bound", "mean_observed") if kind == "mean" else ("worst.bound", "worst.observed")
    both = np.stack([values(heads, f"theorems.{name}.{path}") for path in paths])
    return both[:, positive(*both)]
