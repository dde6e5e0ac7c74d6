"""A whole check as the command line runs it: load, capture, measure, write."""

from pathlib import Path
from typing import Any

from gpu_check.clock import Clock
from gpu_check.document import write_check
from gpu_check.sources import CaptureSource, Job, ModelSource, is_capture_file
from tappa_theory.app.files import output_folder
from tappa_theory.patterns import THRESHOLDS

EXIT_CODES = {"holds": 0, "undecided": 1, "violated": 1}

__all__ = ["Job", "headline", "run"]


def run(job: Job, out: Path, report: bool = True) -> int:
    """Run a check; write check.json, heads.parquet, exemplars.npz, figures and report into `out`.

    An interrupt leaves the finished layers in valid files marked "complete": false. Returns 0 if
    every bound holds, 1 if a pair is violated or undecided. Raises InputError on bad input.
    """
    folder = output_folder(out)
    clock = Clock()
    source = (CaptureSource if is_capture_file(job.model) else ModelSource)(job, clock)
    try:
        source.measure()
    except KeyboardInterrupt:
        if source.result.heads:
            write_check(source, folder, clock, complete=False)
            _remove_report(folder)
        raise
    clock.stop("check")
    result = write_check(source, folder, clock, complete=True)
    _figures(folder, report)
    print(headline(result["summary"], result["verdict"]))
    return EXIT_CODES[result["verdict"]]


def headline(summary: dict[str, Any], verdict: str) -> str:
    """The result in three lines: prediction first, then hypotheses, then the verdict."""
    patterns, theorems = summary["patterns"], summary["theorems"]
    lines = []
    if patterns["heads"]:
        kappa, published = patterns["cohen_kappa"], patterns["published_agreement"]
        lines.append(
            f"patterns: predicted = observed on {patterns['agreement']:.1%} of {patterns['heads']} "
            f"heads, Cohen's kappa {'undefined' if kappa is None else f'{kappa:.2f}'} (always the "
            f"commonest pattern: {patterns['majority_agreement']:.1%}; the paper's rule: "
            f"{'undefined' if published is None else f'{published:.1%}'})"
        )
    else:
        lines.append(f"patterns: none; a text of {THRESHOLDS.shortest} tokens or more is needed")
    for name, part in theorems.items():
        if part["pairs"]:
            lines.append(
                f"{name}: hypotheses met on {part['hypotheses_met_heads']} of "
                f"{part['applicable_heads']} heads, informative on {part['informative']:.2%} of "
                f"{part['pairs']:,} pairs, largest ratio {part['max_ratio']:.3f}"
            )
        else:
            lines.append(f"{name}: applies to no head")
    return "\n".join([*lines, f"bounds: {verdict}"])


def _remove_report(folder: Path) -> None:
    """Remove the report and figures of an earlier run, which would pass for this one's."""
    (folder / "report.html").unlink(missing_ok=True)
    for sidecar in (folder / "figures").glob("*.json"):
        for suffix in (".png", ".svg", ".json"):
            sidecar.with_suffix(suffix).unlink(missing_ok=True)


def _figures(folder: Path, report: bool) -> None:
    from gpu_check.figures import write_figures

    write_figures(folder)
    if report:
        from tappa_theory.app.report import write_report

        print(f"report: {write_report(folder)}")
