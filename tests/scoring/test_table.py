"""Known accuracies are found by cell, from either kind of file, and every error says what."""

import os
from pathlib import Path

import numpy as np
import pytest

from darts_gdas.scoring.table import EDGES, AccuracyTable, arch_string
from darts_gdas.space import Genotype, SearchSpace
from tests.oracles import all_arch_strings

NAMES = ["none", "skip_connect", "nor_conv_3x3"]
OPS = np.array([[0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1], [2, 1, 0, 2, 2, 1]])
ACCURACIES = np.array([10.0, 54.5, 93.25])
TEXTS = [arch_string([NAMES[i] for i in row]) for row in OPS]


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    path = tmp_path / "table.npz"
    np.savez(path, ops=OPS, op_names=NAMES, edges=EDGES, test=ACCURACIES, valid=ACCURACIES - 1)
    return path


def test_strings_hold_the_operations_in_the_order_of_the_edges():
    assert arch_string("abcdef") == "|a~0|+|b~0|c~1|+|d~0|e~1|f~2|"
    names = [(a, b, *"abcd") for a in "ab" for b in "ab"]
    assert {arch_string(each) for each in names} <= set(all_arch_strings("abcd"))


def test_an_npz_file_is_read_by_row(npz: Path):
    table = AccuracyTable.load(npz, "test")
    for i, text in enumerate(TEXTS):
        genotype = Genotype.load(text)
        assert table.accuracy(genotype) == ACCURACIES[i]
        assert table.index(genotype) == i
    assert AccuracyTable.load(npz, "valid").best == 92.25


def test_edges_may_stand_in_another_order(tmp_path: Path, npz: Path):
    path, order = tmp_path / "other.npz", [3, 0, 5, 1, 4, 2]
    np.savez(path, ops=OPS[:, order], op_names=NAMES, edges=np.array(EDGES)[order], test=ACCURACIES)
    assert AccuracyTable.load(path).accuracies == AccuracyTable.load(npz, "test").accuracies


@pytest.mark.parametrize("with_index", [False, True])
def test_a_csv_file_is_read_by_string(tmp_path: Path, npz: Path, with_index: bool):
    path = tmp_path / "table.csv"
    rows = [
        f"{text},{a}" + f",{7 + i}" * with_index
        for i, (text, a) in enumerate(zip(TEXTS, ACCURACIES, strict=True))
    ]
    path.write_text("\n".join(["arch,test" + ",index" * with_index, *rows]) + "\n")
    table = AccuracyTable.load(path)
    assert table.accuracies == AccuracyTable.load(npz, "test").accuracies
    assert table.index(Genotype.load(TEXTS[1])) == (8 if with_index else None)


def test_regret_and_percentile_compare_with_all_cells(npz: Path):
    table = AccuracyTable.load(npz, "test")
    worst, middle, best = map(Genotype.load, TEXTS)
    assert (table.regret(best), table.regret(middle)) == (0.0, 38.75)
    assert table.percentile(best) == 100.0
    assert table.percentile(worst) == pytest.approx(100 / 3)


def test_cells_without_a_finite_accuracy_are_unknown(tmp_path: Path):
    path = tmp_path / "table.npz"
    np.savez(path, ops=OPS, op_names=NAMES, test=np.array([np.nan, 1.0, 2.0]))
    with pytest.raises(ValueError, match=r"does not know the cell \|none~0"):
        AccuracyTable.load(path).accuracy(Genotype.load(TEXTS[0]))


def test_a_table_speaks_of_its_own_space_alone(npz: Path):
    table = AccuracyTable.load(npz, "test")
    table.check_space(SearchSpace.named("nasbench201"))
    with pytest.raises(ValueError, match="this space is another"):
        table.check_space(SearchSpace.named("darts"))


def test_a_table_is_complete_or_names_what_is_missing(npz: Path):
    space = SearchSpace.nasbench201(candidates=("skip_connect", "nor_conv_3x3"))
    cells = all_arch_strings(("skip_connect", "nor_conv_3x3"))
    AccuracyTable(dict.fromkeys(cells, 1.0), {}, "test").check_complete(space)
    with pytest.raises(ValueError, match=r"lacks 1 of the 64 cells .* \|nor_conv_3x3~0\|\+"):
        AccuracyTable(dict.fromkeys(cells[:-1], 1.0), {}, "test").check_complete(space)


def test_cells_that_a_table_lacks_are_counted_and_named(npz: Path):
    table = AccuracyTable.load(npz, "test")
    known, unknown = Genotype.load(TEXTS[0]), Genotype.load(arch_string(["noise"] * 6))
    table.check_cells([known, known])
    with pytest.raises(ValueError, match=r"lacks 2 of the 3 cells to be ranked, \|noise~0\|"):
        table.check_cells([unknown, known, unknown])
    with pytest.raises(ValueError, match="only cells of NAS-Bench-201"):
        table.check_cells([known, Genotype.load("DARTS_V2")])


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(ValueError, match=r"nowhere\.npz' does not exist"):
        AccuracyTable.load(tmp_path / "nowhere.npz")


def test_a_missing_column_lists_those_there(npz: Path):
    for column in (None, "tset"):
        with pytest.raises(ValueError, match=f"must be one of test, valid, got {column}"):
            AccuracyTable.load(npz, column)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npz", b"no archive", "cannot be read"),
        ("a.txt", b"x", "must be an .npz or a .csv file"),
        ("a.csv", b"cell,test\nx,1\n", "needs a column 'arch'"),
        ("a.csv", b"", "needs a column 'arch'"),
        ("a.csv", b"arch,test\n|a~0|,1\n", "a NAS-Bench-201 cell is written"),
        (
            "a.csv",
            f"arch,test\n{arch_string(['conv'] * 6)},1\n".encode(),
            r"a\.csv' names unknown operations \['conv'\]",
        ),
        ("a.csv", f"arch,test\n{TEXTS[0]},high\n".encode(), "could not convert"),
        ("a.csv", f"arch,test\n{TEXTS[0]},nan\n".encode(), "has no accuracy in 'test'"),
        ("a.csv", b"test,arch\n1\n", "a NAS-Bench-201 cell is written"),
        ("a.csv", b"arch,test\n\0,1\n", r"benchmark '.*a\.csv'"),
        ("a.csv", b"arch,test\n" + b"x" * 200_000, r"a\.csv' cannot be read: field larger than"),
        ("a.csv", b"arch,test,test\nx,1,2\n", "names a column twice: arch, test, test"),
        ("a.csv", b"\xff\xfe", r"a\.csv' cannot be read: 'utf-8' codec"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, name: str, content: bytes, message: str):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        AccuracyTable.load(tmp_path / name)


def csv_table(path: Path, *rows: tuple[str, object], encoding: str = "utf-8") -> AccuracyTable:
    lines = ["arch,test", *(f"{cell},{accuracy}" for cell, accuracy in rows)]
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return AccuracyTable.load(path)


def test_a_table_may_begin_with_a_byte_order_mark_as_spreadsheets_write_it(tmp_path: Path):
    rows = list(zip(TEXTS, ACCURACIES, strict=True))
    table = csv_table(tmp_path / "a.csv", *rows, encoding="utf-8-sig")
    assert table.accuracies == dict(rows)


def test_a_cell_with_two_accuracies_is_named_with_both_lines(tmp_path: Path):
    rows = [(TEXTS[0], 10.0), (TEXTS[1], 50.0), (TEXTS[0], 10.0), (TEXTS[1], "nan")]
    assert csv_table(tmp_path / "a.csv", *rows).accuracies == {TEXTS[0]: 10.0, TEXTS[1]: 50.0}
    message = (
        r"a\.csv': line 3 and line 6 give the cell \|skip.* two accuracies, 50 and 50\.5; keep"
    )
    with pytest.raises(ValueError, match=message):
        csv_table(tmp_path / "a.csv", *rows, (TEXTS[1], 50.5))


def test_a_cell_that_an_npz_file_has_twice_is_named_with_both_rows(tmp_path: Path):
    twice = np.array([*OPS, OPS[1]])
    np.savez(tmp_path / "a.npz", ops=twice, op_names=NAMES, test=np.array([1.0, 2.0, 3.0, 4.0]))
    with pytest.raises(ValueError, match=r"row 1 and row 3 give the cell .* accuracies, 2 and 4"):
        AccuracyTable.load(tmp_path / "a.npz")


def test_a_cell_with_two_numbers_is_named(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_text(f"arch,test,index\n{TEXTS[0]},9,1\n{TEXTS[0]},9,2\n")
    with pytest.raises(ValueError, match=r"line 2 and line 3 give .* two numbers, 1 and 2"):
        AccuracyTable.load(path)


@pytest.mark.parametrize("value", [-1.0, 100.5, float("inf"), -float("inf")])
def test_accuracies_outside_of_per_cent_are_named_with_their_lines(tmp_path: Path, value: float):
    message = rf"must lie in 0\.\.100 per cent, 'test' has 1 outside: {value:g} in line 3; leave"
    with pytest.raises(ValueError, match=message):
        csv_table(tmp_path / "a.csv", (TEXTS[0], 90.0), (TEXTS[1], value), (TEXTS[2], 100.0))


def test_fractions_are_not_taken_for_per_cent(tmp_path: Path):
    with pytest.raises(ValueError, match=r"per cent, but the highest of 'test' is 0\.94 in line 3"):
        csv_table(tmp_path / "a.csv", (TEXTS[0], 0.1), (TEXTS[1], 0.94), (TEXTS[2], "nan"))
    broken = csv_table(tmp_path / "a.csv", (TEXTS[0], 0.83), (TEXTS[1], 94.0))
    assert broken.best == 94.0  # chance among 120 classes is below 1 per cent


def test_what_is_no_number_is_named_with_its_line(tmp_path: Path):
    with pytest.raises(ValueError, match=r"line 3: could not convert string to float: 'high'"):
        csv_table(tmp_path / "a.csv", (TEXTS[0], 90.0), (TEXTS[1], "high"))


def test_operations_must_be_six_per_cell(tmp_path: Path):
    np.savez(tmp_path / "a.npz", ops=OPS[:, :5], op_names=NAMES, test=ACCURACIES)
    with pytest.raises(ValueError, match=r"must be \[cells, 6\]"):
        AccuracyTable.load(tmp_path / "a.npz")


class Evil:
    """Would make a folder when unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return (os.mkdir, (str(self.marker),))


@pytest.mark.parametrize("name", ["ops", "op_names", "edges", "test"])
def test_code_in_an_npz_file_is_not_run(tmp_path: Path, name: str):
    path, marker = tmp_path / "a.npz", tmp_path / "marker"
    arrays = {"ops": OPS, "op_names": NAMES, "edges": EDGES, "test": ACCURACIES}
    np.savez(path, **arrays | {name: np.array([Evil(marker)], dtype=object)})
    with pytest.raises(ValueError, match=r"a\.npz' cannot be read: .*allow_pickle=False"):
        AccuracyTable.load(path)
    assert not marker.exists()


@pytest.mark.parametrize("ops", [OPS - 1, OPS + 1, OPS / 2, OPS.astype(str)], ids=str)
def test_operations_must_be_numbers_of_names(tmp_path: Path, ops: np.ndarray):
    np.savez(tmp_path / "a.npz", ops=ops, op_names=NAMES, test=ACCURACIES)
    with pytest.raises(ValueError, match="ops must hold numbers into the 3 op_names"):
        AccuracyTable.load(tmp_path / "a.npz")


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_truncated_npz_file_is_named(npz: Path, share: float):
    npz.write_bytes(npz.read_bytes()[: int(share * npz.stat().st_size)])
    with pytest.raises(ValueError, match=r"table\.npz' cannot be read"):
        AccuracyTable.load(npz, "test")
