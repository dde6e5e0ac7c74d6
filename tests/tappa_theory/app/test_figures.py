"""`tappa figures`: every source draws, one without anything is named."""

import pytest

from tappa_theory.app.figures import draw_figures
from tappa_theory.errors import InputError


def source(name: str, code: int | None):
    def draw(out):
        if code is not None:
            (out / "figures").mkdir(exist_ok=True)
            (out / "figures" / f"{name}.svg").write_text("<svg/>")
        return code

    return draw


def test_every_source_draws_and_the_worst_code_counts(tmp_path, capsys):
    sources = {name: source(name, code) for name, code in (("a", 0), ("b", None), ("c", 1))}
    assert draw_figures(sources, tmp_path) == 1
    captured = capsys.readouterr()
    assert captured.err == f"b: nothing to draw in {tmp_path}, left out\n"
    assert captured.out == f"2 figures: {tmp_path / 'figures'}\n"


def test_a_folder_without_anything_to_draw_is_bad_input(tmp_path):
    with pytest.raises(InputError, match="nothing to draw"):
        draw_figures({"a": source("a", None)}, tmp_path)
