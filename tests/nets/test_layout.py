"""The outer network: every cell's place, by hand, and every error message."""

import pytest

from darts_gdas.nets import CHAIN, DARTS, NASBENCH201, Layout, Stem, register_skeleton
from darts_gdas.nets.layout import SKELETONS, CellPlan, skeleton_of
from darts_gdas.space import block_kinds

FOUR = {"normal": 4, "reduce": 4}


def plans(*rows: tuple[str, int, tuple[int, int], bool]) -> tuple[CellPlan, ...]:
    return tuple(CellPlan(*row, stride=2 if row[0] == "reduce" else 1) for row in rows)


def test_the_search_network_of_8_cells_by_hand():
    layout = Layout(channels=16, layers=8, num_classes=10)
    assert layout.stem_channels == 48
    assert layout.reduction_positions == (2, 5)
    assert layout.plan(FOUR) == plans(
        ("normal", 16, (48, 48), False),
        ("normal", 16, (48, 64), False),
        ("reduce", 32, (64, 64), False),
        ("normal", 32, (64, 128), True),
        ("normal", 32, (128, 128), False),
        ("reduce", 64, (128, 128), False),
        ("normal", 64, (128, 256), True),
        ("normal", 64, (256, 256), False),
    )


def test_the_cifar_network_of_20_cells_by_hand():
    layout = Layout(channels=36, layers=20, num_classes=10)
    assert layout.reduction_positions == (6, 13)
    assert layout.plan(FOUR) == plans(
        ("normal", 36, (108, 108), False),
        ("normal", 36, (108, 144), False),
        *[("normal", 36, (144, 144), False)] * 4,
        ("reduce", 72, (144, 144), False),
        ("normal", 72, (144, 288), True),
        *[("normal", 72, (288, 288), False)] * 5,
        ("reduce", 144, (288, 288), False),
        ("normal", 144, (288, 576), True),
        *[("normal", 144, (576, 576), False)] * 5,
    )


def test_the_imagenet_network_halves_the_first_state_of_the_first_cell():
    layout = Layout(channels=48, layers=14, num_classes=1000, stem=Stem.imagenet)
    assert layout.stem_channels == 48
    assert layout.reduction_positions == (4, 9)
    plan = layout.plan(FOUR)
    assert plan[:2] == plans(("normal", 48, (48, 48), True), ("normal", 48, (48, 192), False))
    assert [i for i, cell in enumerate(plan) if cell.halves_first_input] == [0, 5, 10]


def test_kinds_may_concatenate_different_numbers_of_states():
    layout = Layout(channels=4, layers=4, num_classes=10)
    assert layout.plan({"normal": 5, "reduce": 3}) == plans(
        ("normal", 4, (12, 12), False),
        ("reduce", 8, (12, 20), False),
        ("reduce", 16, (20, 24), True),
        ("normal", 16, (24, 48), True),
    )


@pytest.mark.parametrize("layers", range(3, 25))
def test_default_reductions_are_two_cells_at_the_thirds(layers: int):
    layout = Layout(channels=4, layers=layers, num_classes=10)
    assert layout.reduction_positions == (int(layers / 3), int(2 * layers / 3))
    assert layout.kinds.count("reduce") == 2
    assert layout.plan(FOUR)[-1].channels == 16


def test_explicit_reductions_replace_the_default():
    layout = Layout(channels=4, layers=5, num_classes=10, reductions=(0, 3, 4))
    assert layout.kinds == ("reduce", "normal", "normal", "reduce", "reduce")
    assert [plan.channels for plan in layout.plan(FOUR)] == [8, 8, 8, 16, 32]


@pytest.mark.parametrize("layers", [1, 2, 5])
def test_without_reductions_any_number_of_cells_fits(layers: int):
    layout = Layout(channels=4, layers=layers, num_classes=10, reductions=())
    assert layout.kinds == ("normal",) * layers
    plan = layout.plan({"normal": 4})
    assert {cell.channels for cell in plan} == {4}
    assert not any(cell.halves_first_input for cell in plan)


def test_only_reduction_cells_stride():
    for plan in Layout(channels=4, layers=8, num_classes=10).plan(FOUR):
        assert plan.stride == (2 if plan.kind == "reduce" else 1)


# NAS-Bench-201


@pytest.mark.parametrize("cells_per_stage", [1, 2, 5])
def test_three_stages_with_residual_blocks_between_them(cells_per_stage: int):
    layers = 3 * cells_per_stage + 2
    layout = Layout(16, layers, 10, skeleton=NASBENCH201)
    stage = ("normal",) * cells_per_stage
    assert layout.kinds == (*stage, "residual", *stage, "residual", *stage)
    assert layout.searched_kinds == {"normal"}
    plans = layout.plan({"normal": 1})
    channels = [plan.channels for plan in plans]
    assert channels == sorted(channels)
    assert set(channels) == {16, 32, 64}
    assert [plan.in_channels for plan in plans] == [(16,), *((c,) for c in channels[:-1])]
    strides = [2 if kind == "residual" else 1 for kind in layout.kinds]
    assert [plan.stride for plan in plans] == strides
    assert not any(plan.halves_first_input for plan in plans)


@pytest.mark.parametrize("layers", [2, 3, 4, 6, 7, 20 + 1])
def test_other_numbers_of_layers_have_no_three_equal_stages(layers: int):
    with pytest.raises(ValueError, match=rf"must be 3 N \+ 2 .* got {layers}"):
        Layout(16, layers, 10, skeleton=NASBENCH201)


@pytest.mark.parametrize(
    "changes", [{"reductions": (1,)}, {"stem": Stem.imagenet}, {"widths": (1,) * 5}], ids=str
)
def test_its_reductions_and_stem_are_its_own(changes: dict[str, object]):
    with pytest.raises(ValueError, match=r"leave net\.reductions and net\.stem out"):
        Layout(16, 5, 10, skeleton=NASBENCH201, **changes)  # type: ignore[arg-type]


def test_the_skeleton_follows_from_the_cells():
    assert skeleton_of({"normal": 2, "reduce": 2}) is DARTS
    assert skeleton_of({"normal": 2}) is DARTS
    assert skeleton_of({"normal": 1}) is NASBENCH201
    assert skeleton_of({kind: 1 for kind in block_kinds(12)}) is CHAIN
    assert skeleton_of({"normal": 1, "reduce": 2}) is DARTS  # which says then what it feeds
    with pytest.raises(ValueError, match=r"feeds one state to a cell, it takes \{'normal': 2\}"):
        Layout(4, 5, 2, skeleton=NASBENCH201).check_cells({"normal": 2}, "it")


def test_a_skeleton_has_a_name_of_its_own():
    assert [*SKELETONS] == ["darts", "nasbench201", "chain"]
    assert Layout(4, 3, 2) == Layout(4, 3, 2, skeleton=SKELETONS["darts"])
    with pytest.raises(ValueError, match="the name 'chain' is taken"):
        register_skeleton(CHAIN)


# Widths


def test_widths_replace_the_doubling():
    layout = Layout(4, 4, 10, widths=(1, 1, 3, 2))
    assert layout.plan(FOUR) == plans(
        ("normal", 4, (12, 12), False),
        ("reduce", 4, (12, 16), False),
        ("reduce", 12, (16, 16), True),
        ("normal", 8, (16, 48), True),
    )


@pytest.mark.parametrize("widths", [(1, 2), (1, 2, 0, 1), ()], ids=str)
def test_there_is_one_width_for_each_cell(widths: tuple[int, ...]):
    with pytest.raises(ValueError, match=r"space\.widths must hold one number >= 1 for each of 4"):
        Layout(4, 4, 10, widths=widths)


# Sizes


@pytest.mark.parametrize(
    ("stem", "reductions", "minimum"),
    [
        (Stem.cifar, None, 4),
        (Stem.cifar, (), 1),
        (Stem.cifar, (1, 2, 4), 8),
        (Stem.imagenet, None, 32),
        (Stem.imagenet, (), 8),
    ],
)
def test_images_must_survive_stem_and_reductions(
    stem: Stem, reductions: tuple[int, ...] | None, minimum: int
):
    layout = Layout(4, 6, 10, stem=stem, reductions=reductions)
    layout.check_image_size(minimum, minimum)
    layout.check_image_size(minimum + 1, 10 * minimum)
    for height, width in [(minimum - 1, minimum), (minimum, minimum - 1)]:
        with pytest.raises(ValueError) as error:
            layout.check_image_size(height, width)
        number = 2 if reductions is None else len(reductions)
        assert str(error.value) == (
            f"images of {height}x{width} pixels are too small: {stem.value} stem and {number} "
            f"reduction cells need at least {minimum}x{minimum}"
        )


# Error messages


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": 1}, r"net\.channels must be at least 2, got 1"),
        ({"layers": 0}, r"net\.layers must be at least 1, got 0"),
        ({"num_classes": 1}, r"net\.num_classes must be at least 2, got 1"),
        ({"in_channels": 0}, r"net\.in_channels must be at least 1, got 0"),
        ({"layers": 2}, r"net\.layers must be at least 3, got 2: two reduction cells and a norm"),
        ({"reductions": (8,)}, r"net\.reductions must be distinct and lie in 0\.\.7, got \(8,\)"),
        ({"reductions": (-1, 2)}, r"net\.reductions must be distinct and lie in 0\.\.7"),
        ({"reductions": (1, 1)}, r"net\.reductions must be distinct and lie in 0\.\.7"),
    ],
)
def test_impossible_numbers_are_errors(changes: dict[str, object], message: str):
    numbers = {"channels": 16, "layers": 8, "num_classes": 10, **changes}
    with pytest.raises(ValueError, match=message):
        Layout(**numbers)  # type: ignore[arg-type]
