"""A whole check as the command line runs it: load, capture, measure, write."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gpu_check.clock import Clock
from gpu_check.distributed import ProcessLost, World, joined
from gpu_check.document import write_check
from gpu_check.options import Job
from gpu_check.sources import CaptureSource, ModelSource, Source
from tappa_theory.app.commands import print_error
from tappa_theory.app.files import output_folder
from tappa_theory.patterns import THRESHOLDS

EXIT_CODES = {"holds": 0, "undecided": 1, "violated": 1}

__all__ = ["Job", "headline", "run"]


def run(job: Job, out: Path, report: bool = True) -> int:
    """Run a check; write check.json, heads.parquet, two .npz, figures and report into `out`.

    Processes that torchrun or accelerate started share the heads; the first one writes and prints.
    An interrupt leaves the finished layers in valid files marked "complete": false. Returns 0 if
    every bound holds, 1 if a pair is violated or undecided or another process was lost. Raises
    InputError on bad input, in all processes.
    """
    try:
        with joined(job.device) as world, world.agreeing():
            return _run(replace(job, device=world.device), out, report, world)
    except ProcessLost as error:
        print_error(str(error))
        return 1


def _run(job: Job, out: Path, report: bool, world: World) -> int:
    folder = output_folder(out) if world.first else out
    clock = Clock()
    source = (CaptureSource if is_capture_file(job.model) else ModelSource)(job, clock, world)
    source.device = ", ".join(dict.fromkeys(world.everyone(source.device)))
    if world.size > 1:
        clock.stop("wait")  # until the slowest process was ready, too
    try:
        source.measure()
        clock.stop("check")
        if source.precision is not None:
            # The pass in the reference dtype needs more memory: a killed process keeps this much.
            _write_unfinished(source, folder, clock)
            source.measure_precision()
            clock.stop("reference")
    except (KeyboardInterrupt, ProcessLost):
        if source.result.heads:
            _write_unfinished(source, folder, clock)
        raise
    code = _write(source, folder, clock, report) if world.first else 0
    return world.everyone(code)[0]


def _write_unfinished(source: Source, folder: Path, clock: Clock) -> None:
    if source.world.first:
        write_check(source, folder, clock, complete=False)
        _remove_report(folder)


def _write(source: Source, folder: Path, clock: Clock, report: bool) -> int:
    """Write and print what a finished check has; its exit code."""
    result = write_check(source, folder, clock, complete=True)
    _figures(folder, report)
    print(headline(result))
    return EXIT_CODES[result["verdict"]]


def is_capture_file(model: str) -> bool:
    """Does the name mean a file of captured queries and keys?"""
    path = Path(model).expanduser()
    return path.suffix.lower() == ".safetensors" and not path.is_dir()


def headline(document: dict[str, Any]) -> str:
    """A check.json in a few lines: prediction first, then hypotheses, then the verdict."""
    summary = document["summary"]
    spread, precision = summary["spread"], document["precision"]
    lines = [_patterns(summary["patterns"], document["heads"])]
    if spread is not None:
        lines.append(_spread(spread))
    over = "heads" if spread is None else "heads x texts"
    for name, part in summary["theorems"].items():
        if part["pairs"]:
            lines.append(
                f"{name}: hypotheses met on {part['hypotheses_met_heads']} of "
                f"{part['applicable_heads']} {over}, informative on {part['informative']:.2%} of "
                f"{part['pairs']:,} pairs, largest ratio {part['max_ratio']:.3f}"
            )
        else:
            lines.append(f"{name}: applies to no head")
    if summary["lifetime"] and summary["reuse"] and summary["kl"]:
        lines.append(_lifetimes(summary["lifetime"], summary["reuse"], summary["kl"]))
    if precision is not None:
        lines.append(_precision(precision))
    return "\n".join([*lines, f"bounds: {document['verdict']}"])


def _patterns(patterns: dict[str, Any], heads: Sequence[Mapping[str, Any]]) -> str:
    if not patterns["heads"]:
        return (
            f"patterns: none; a text of {THRESHOLDS.shortest} tokens or more is needed, and "
            "queries and keys that are not all zero"
        )
    by_text = Counter(
        head["text"]
        for head in heads
        if head["pattern_predicted"] is not None and head["pattern_observed"] is not None
    )
    count = f"{patterns['heads']} heads"
    if len(by_text) > 1:
        equal = len(set(by_text.values())) == 1
        count = (
            f"{max(by_text.values())} heads x {len(by_text)} texts" if equal else f"{count} x texts"
        )
    return (
        f"patterns: predicted = observed on {patterns['agreement']:.1%} of {count}, Cohen's kappa "
        f"{_number(patterns['cohen_kappa'], '.2f')} (always the commonest pattern: "
        f"{patterns['majority_agreement']:.1%}; the paper's rule: "
        f"{_number(patterns['published_agreement'], '.1%')})"
    )


def _spread(spread: dict[str, Any]) -> str:
    numbers = spread["numbers"]
    parts = []
    for label, name, form in (
        ("predicted = observed", "agreement", ".1%"),
        ("kappa", "cohen_kappa", ".2f"),
        ("q-similarity", "q_similarity.adjacent_pre", ".3f"),
    ):
        found = numbers[name]
        low, high = _number(found["min"], form), _number(found["max"], form)
        parts.append(f"{label} {low} to {high}")
    return (
        f"over {spread['texts']} texts: {', '.join(parts)}; the observed pattern is the same in "
        f"every text on {_number(spread['observed_stable'], '.1%')} of the heads, the predicted on "
        f"{_number(spread['predicted_stable'], '.1%')}"
    )


def _lifetimes(life: dict[str, Any], reuse: dict[str, Any], kl: dict[str, Any]) -> str:
    step, part = next(iter(reuse.items()))
    broken = life["broken"] + sum(later["broken"] for later in reuse.values())
    return (
        f"lifetimes: the top key is certified for a step or more on {life['certified_rows']:,} of "
        f"{life['rows']:,} rows (it lasts {life['observed_old']['mean']:.2f} steps, median of the "
        f"heads' means); {step} row later no discarded key overtakes it on "
        f"{part['top_observed']:.1%}, certified on {part['top_certified']:.1%}, and these hold "
        f"{part['observed']:.3f} of the attention, certified at most {part['measured']:.3f} "
        f"(medians); outside what is proven: {broken} rows, {kl['outside']} steps"
    )


def _precision(precision: dict[str, Any]) -> str:
    start = f"precision, {precision['dtype']} against {precision['reference']}"
    if "not_measured" in precision:
        return f"{start}: not measured ({precision['not_measured']})"
    similarity = precision["differences"]["q_similarity.adjacent_pre"]
    return (
        f"{start}: observed pattern changed on {precision['observed_changed']} of "
        f"{precision['heads']} heads, predicted on {precision['predicted_changed']}; q-similarity "
        f"by {_number(similarity['median'], '.1e')} (median), "
        f"{_number(similarity['max'], '.1e')} (largest)"
    )


def _number(value: float | None, form: str) -> str:
    return "undefined" if value is None else format(value, form)


def _remove_report(folder: Path) -> None:
    """Remove the report and figures of an earlier run, which would pass for this one's."""
    from gpu_check.figures import remove_figures

    (folder / "report.html").unlink(missing_ok=True)
    remove_figures(folder)


def _figures(folder: Path, report: bool) -> None:
    from gpu_check.figures import write_figures

    write_figures(folder)
    if report:
        from tappa_theory.app.report import write_report

        print(f"report: {write_report(folder)}")
