from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path
from typing import BinaryIO

import matplotlib
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.transforms import Bbox

from darts_gdas.report.cell_drawing import draw_genotype, save_drawing
from darts_gdas.report.text import FONT_SIZE
from darts_gdas.report.wiring import wiring
from darts_gdas.space import DARTS_CANDIDATES, CellGenotype, Edge, Genotype, published_names

OPERATIONS = (*DARTS_CANDIDATES[1:], "conv_7x1_1x7", "an_operation_with_a_long_name")
TINY = CellGenotype(((Edge("skip_connect", 0),),), (1,), num_inputs=1)


@st.composite
def cells(draw: st.DrawFn) -> CellGenotype:
    num_inputs, num_nodes = draw(st.integers(1, 3)), draw(st.integers(1, 8))
    nodes = tuple(
        tuple(
            Edge(draw(st.sampled_from(OPERATIONS)), draw(st.integers(0, num_inputs + node - 1)))
            for _ in range(draw(st.integers(1, 4)))
        )
        for node in range(num_nodes)
    )
    states = st.integers(num_inputs, num_inputs + num_nodes - 1)
    return CellGenotype(nodes, tuple(draw(st.sets(states, min_size=1))), num_inputs)


def is_apart(a: Bbox, b: Bbox, slack: float = 1e-9) -> bool:
    return min(a.x1, b.x1) - max(a.x0, b.x0) <= slack or min(a.y1, b.y1) - max(a.y0, b.y0) <= slack


def assert_reads_well(figure: Figure):
    """No text overlaps another or leaves its box or the figure."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    labels = [text for text in figure.texts if text.get_text()]
    extents = [text.get_window_extent(renderer) for text in labels]
    for axes in figure.axes:
        inside = [text.get_window_extent(renderer) for text in axes.texts]
        frames = [patch for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
        for text, frame in zip(inside, frames, strict=True):
            box = frame.get_window_extent(renderer)
            assert box.x0 < text.x0 < text.x1 < box.x1 and box.y0 < text.y0 < text.y1 < box.y1
        extents += inside
        drawing = Bbox.union([patch.get_window_extent(renderer) for patch in axes.patches])
        assert all(is_apart(drawing, text.get_window_extent(renderer)) for text in labels)
    assert all(is_apart(a, b) for a, b in combinations(extents, 2))
    for text in extents:
        assert figure.bbox.x0 <= text.x0 and text.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= text.y0 and text.y1 <= figure.bbox.y1


def assert_shows(axes: Axes, cell: CellGenotype):
    """Every operation, state and line is where the layout has it."""
    drawn = wiring(cell)
    boxes = [patch.get_bbox() for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
    middles = [((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2) for box in boxes]
    texts = [text.get_text() for text in axes.texts]
    expected = [(wire.label, wire.corner) for wire in drawn.wires]
    expected += [(state.name, state.at) for state in drawn.states]
    assert texts == [text for text, _ in expected]
    assert np.array(middles) == pytest.approx(np.array([at for _, at in expected]))
    lines = [np.asarray(line.get_xydata()).tolist() for line in axes.lines]
    paths = [[list(p) for p in (wire.start, wire.corner, wire.end)] for wire in drawn.wires]
    assert lines[: len(paths)] == paths
    assert len(lines) == len(paths) + len(cell.output)  # a hook below each state that leaves


def assert_is_good(genotype: Genotype, title: str = ""):
    figure = draw_genotype(genotype, title=title)
    assert_reads_well(figure)
    assert [axes.get_label() for axes in figure.axes] == sorted(genotype.cells)
    for axes in figure.axes:
        assert_shows(axes, genotype.cells[str(axes.get_label())])


@pytest.mark.parametrize("name", published_names())
def test_published_genotypes_are_drawn_without_overlap(name: str):
    assert_is_good(Genotype.load(name), title=name)


@settings(max_examples=12, deadline=None, phases=(Phase.reuse, Phase.generate))
@given(cells(), cells())
def test_any_genotype_is_drawn_without_overlap(normal: CellGenotype, reduce: CellGenotype):
    assert_is_good(Genotype({"reduce": reduce, "normal": normal}))


def test_a_small_cell_has_room_for_long_headings():
    assert_is_good(Genotype({"a kind with a name of many words that goes on": TINY}))
    assert_is_good(Genotype({"normal": TINY}), title="A title that is wider than the whole cell")


def test_normal_stands_above_reduce():
    figure = draw_genotype(Genotype({"reduce": TINY, "normal": TINY}))
    normal, reduce = figure.axes
    assert normal.get_label() == "normal" and reduce.get_label() == "reduce"
    assert normal.get_position().y0 > reduce.get_position().y1


def test_text_keeps_its_size_while_the_figure_grows():
    small = draw_genotype(Genotype({"normal": TINY}))
    large = draw_genotype(Genotype.load("NASNet"))
    sizes = {text.get_fontsize() for figure in (small, large) for text in figure.axes[0].texts}
    assert sizes == {FONT_SIZE, FONT_SIZE - 1}  # of operations, of states
    assert (large.get_size_inches() > small.get_size_inches()).all()


def test_one_genotype_gives_the_same_bytes(tmp_path: Path):
    cells = Genotype.load("GDAS_V1").cells
    first, second = tmp_path / "first.svg", tmp_path / "second.svg"
    save_drawing(draw_genotype(Genotype(dict(cells)), title="GDAS"), first)
    reordered = Genotype({kind: cells[kind] for kind in reversed(list(cells))})
    save_drawing(draw_genotype(reordered, title="GDAS"), second)
    assert first.read_bytes() == second.read_bytes()
    assert first.read_bytes().startswith(b"<?xml")


def test_settings_of_matplotlib_neither_matter_nor_change(tmp_path: Path):
    genotype, plain, styled = Genotype.load("DARTS_V2"), tmp_path / "a.svg", tmp_path / "b.svg"
    before = dict(matplotlib.rcParams)
    save_drawing(draw_genotype(genotype), plain)
    assert dict(matplotlib.rcParams) == before
    style = {
        "font.size": 30.0,
        "font.family": ["serif"],
        "axes.facecolor": "red",
        "figure.autolayout": True,
        "savefig.bbox": "tight",
        "savefig.transparent": True,
        "svg.hashsalt": "other",
    }
    with matplotlib.rc_context(style):
        save_drawing(draw_genotype(genotype), styled)
    assert styled.read_bytes() == plain.read_bytes()


def test_threads_draw_the_same(tmp_path: Path):
    genotypes = [Genotype.load(name) for name in ("GDAS_V1", "PDARTS")] * 3
    with ThreadPoolExecutor(3) as pool:
        figures = list(pool.map(draw_genotype, genotypes))
    texts = set()
    for index, figure in enumerate(figures):
        save_drawing(figure, tmp_path / f"{index}.svg")
        texts.add((tmp_path / f"{index}.svg").read_bytes())
    assert len(texts) == 2


def test_png_has_its_format(tmp_path: Path):
    save_drawing(draw_genotype(Genotype({"normal": TINY})), tmp_path / "cell.png")
    assert (tmp_path / "cell.png").read_bytes().startswith(b"\x89PNG")


def test_a_failing_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(self: Figure, file: BinaryIO, **settings: object):
        file.write(b"half a drawing")
        raise OSError("disk full")

    path = tmp_path / "cell.svg"
    path.write_text("old")
    figure = draw_genotype(Genotype({"normal": TINY}))
    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        save_drawing(figure, path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_other_formats_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"saved as \.svg or \.png, got 'cell\.jpg'"):
        save_drawing(draw_genotype(Genotype({"normal": TINY})), tmp_path / "cell.jpg")
    assert not list(tmp_path.iterdir())
