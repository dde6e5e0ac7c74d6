"""One figure style for every room: colours, sizes, and how a figure and a formula are written.

Colours are those of Okabe and Ito, told apart with any kind of colour vision; every pattern has a
marker as well, for print in grey. matplotlib is imported when a function is called, never pyplot.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tappa_theory.app.files import atomic_path, output_folder, write_json
from tappa_theory.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMN_WIDTH = 3.4
PAGE_WIDTH = 7.0
"""Widths of a figure over one column and over the page, inches."""

PNG_DPI = 200


@dataclass(frozen=True)
class Mark:
    """How one thing looks in every figure: a colour and a marker."""

    colour: str
    marker: str


PATTERN_MARKS: dict[str, Mark] = {
    "re_access": Mark("#0072b2", "o"),
    "sequential": Mark("#e69f00", "^"),
    "periodic_sequential": Mark("#009e73", "s"),
    "seasonal": Mark("#cc79a7", "D"),
    "unpredictable": Mark("#8c8c8c", "X"),
}
"""The mark of each pattern; a theorem has the mark of the pattern it is about."""

THEOREM_MARKS: dict[str, Mark] = {
    name: mark for name, mark in PATTERN_MARKS.items() if name != "unpredictable"
}
"""The marks of the theorems that are drawn: those that are about a pattern."""

QUERY_COLOUR = "#332288"
KEY_COLOUR = "#882255"
"""Colours of what is about queries and about keys; no pattern has them."""

INK = "#222222"
GUIDE = "#6b6b6b"
"""Colours of text and axes, and of identity lines and other guides."""

COLOUR_MAP = "viridis"
"""Of shares and similarities: sequential, monotone in lightness."""

# Any: the names of settings are a type of their own in some versions of matplotlib.
_SETTINGS: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "figure.titlesize": 9,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "lines.linewidth": 1.2,
    "legend.frameon": False,
    "image.cmap": COLOUR_MAP,
    "image.interpolation": "nearest",
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "tappa",
}


@contextmanager
def figure_style() -> Iterator[None]:
    """Within the block, matplotlib draws in this style, whatever the user's own settings are."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield


def share_text(value: float | None) -> str:
    """A share 0..1 as a percentage of three significant digits; "n/a" for None."""
    if value is None:
        return "n/a"
    return "0%" if value == 0 else f"{_significant(100 * value)}%"


def number_text(value: float | int | None) -> str:
    """A number for people: integers whole, others to three significant digits, "n/a" for None."""
    if value is None:
        return "n/a"
    if isinstance(value, int):
        return f"{value:,}"
    return _significant(value)


def digits_text(value: float | None) -> str:
    """A number to five significant digits, of which three would hide a small change; "n/a"."""
    return "n/a" if value is None else f"{value:.5g}"


def _significant(value: float) -> str:
    if value == 0:
        return "0"
    if 1e-4 <= abs(value) < 1e6:
        whole = len(str(int(abs(value)))) if abs(value) >= 1 else 0
        return f"{value:,.{max(3 - whole, 0)}f}" if whole else f"{value:#.3g}"
    return f"{value:.2e}"


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of that size in inches; to be called, like all drawing, in `figure_style`."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save_figure(
    fig: Figure, folder: Path | str, name: str, caption: str, alt: str, *, title: str
) -> list[Path]:
    """Write name.png (200 dpi), name.svg and name.json {title, caption, alt}; return the paths.

    caption: what is seen and under which conditions. alt: what a reader who sees nothing is told.
    Each file is whole or not there, and the same figure gives the same bytes. The folder is
    created. Raises InputError if the folder or a file cannot be written.
    """
    target = output_folder(folder)
    with figure_style():
        # The layout is found once and kept, so that both files show the same picture.
        fig.draw_without_rendering()
        fig.set_layout_engine("none")
    written = []
    for suffix, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
        path = target / f"{name}.{suffix}"
        with figure_style(), atomic_path(path) as temporary:
            try:
                fig.savefig(temporary, dpi=PNG_DPI, metadata=metadata)
            except OSError as error:
                raise InputError(f"cannot write {path} ({error}); name another folder") from error
        written.append(path)
    sidecar = target / f"{name}.json"
    write_json(sidecar, {"title": title, "caption": caption, "alt": alt})
    return [*written, sidecar]


def formula_svg(latex: str) -> str | None:
    """A LaTeX formula as one inline SVG element in the colour of the text around it.

    None if matplotlib's mathtext cannot set the formula. The element needs no font and no link.
    """
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    expression = latex
    for spelling, understood in _MATHTEXT_SPELLINGS:
        expression = re.sub(spelling, understood, expression)
    try:
        with figure_style():
            font = FontProperties(math_fontfamily="stix")
            path = TextPath((0, 0), f"${expression}$", size=_EM, prop=font)
    except ValueError:
        return None
    box = path.get_extents()
    left, bottom, width, height = (
        round(float(value), 1) for value in (box.x0 - 1, box.y0 - 1, box.width + 2, box.height + 2)
    )
    return (
        f'<svg class="formula" role="img" aria-label="{escape(latex, quote=True)}"'
        f' viewBox="{left} {round(-bottom - height, 1)} {width} {height}"'
        f' style="height:{height / _EM:.3f}em;width:{width / _EM:.3f}em;'
        f'vertical-align:{bottom / _EM:.3f}em"><path fill="currentColor" d="{_path_data(path)}"/>'
        "</svg>"
    )


_MATHTEXT_SPELLINGS = (
    (r"\\tfrac(?![a-zA-Z])", r"\\frac"),
    # arguments without braces
    (r"\\frac\s*(\d|\\[a-zA-Z]+)\s*(\d|\{[^{}]*\})", r"\\frac{\1}{\2}"),
    (r"\\frac\{(\d|\\[a-zA-Z]+)\}\{\{([^{}]*)\}\}", r"\\frac{\1}{\2}"),
    (r"\\mathrm (\w)", r"\\mathrm{\1}"),
    (r"\\sqrt(\d)", r"\\sqrt{\1}"),
    (r"\\le(?![a-zA-Z])", r"\\leq"),
    (r"\\ge(?![a-zA-Z])", r"\\geq"),
    (r"\\sqrt (\w)", r"\\sqrt{\1}"),
)
"""LaTeX that mathtext knows only under another spelling."""

_EM = 100.0
"""Units of a formula's SVG that make one em: enough for coordinates of one decimal."""

_COMMANDS = {1: "M", 2: "L", 3: "Q", 4: "C", 79: "Z"}
"""SVG path commands of matplotlib's path codes."""


def _path_data(path: Any) -> str:
    parts = []
    for points, code in path.iter_segments(simplify=False):
        command = _COMMANDS[int(code)]
        numbers = [] if command == "Z" else [f"{x:.1f} {-y:.1f}" for x, y in points.reshape(-1, 2)]
        parts.append(command + " ".join(numbers))
    return "".join(parts)
