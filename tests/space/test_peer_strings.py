"""Cells as the codes of others print them are the published ones."""

import json
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from darts_gdas.cli.arguments import as_meant
from darts_gdas.nets import DerivedNet, Layout, count_parameters
from darts_gdas.space import Genotype
from darts_gdas.space.peer_strings import peer_cells

DARTS_V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), "
    "('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), "
    "('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), "
    "('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=[2, 3, 4, 5])"
)
"""As a search of the DARTS authors' code prints it."""

GDAS_V1 = """Genotype(
  normal=[
    (('skip_connect', 0), ('skip_connect', 1)),
    (('skip_connect', 0), ('sep_conv_5x5', 2)),
    (('sep_conv_3x3', 3), ('skip_connect', 0)),
    (('sep_conv_5x5', 4), ('sep_conv_3x3', 3))],  # in pairs
  normal_concat=range(2, 6),
  reduce=[
    (('sep_conv_5x5', 0, 0.129), ('sep_conv_3x3', 1, 0.128)),
    (('sep_conv_5x5', 2, 0.127), ('sep_conv_5x5', 1, 0.127)),
    (('dil_conv_5x5', 2, 0.128), ('sep_conv_3x3', 1, 0.127)),
    (('sep_conv_5x5', 0, 0.128), ('sep_conv_5x5', 1, 0.128))],
  reduce_concat=range(2, 6),
  connectN=None, connects=None,
)"""
"""As GDAS's own code has it, here with and there without the weights of a search's log."""


@pytest.mark.parametrize(("name", "text"), [("DARTS_V2", DARTS_V2), ("GDAS_V1", GDAS_V1)])
def test_a_printed_cell_is_the_published_one(name: str, text: str, tmp_path: Path):
    """By itself, in a file, and as a setting that hydra has read."""
    file = tmp_path / "printed.txt"
    file.write_text(f"\n{text}\n", encoding="utf-8")
    typed = OverridesParser.create().parse_override(as_meant(f"genotype={text}")).value()
    assert [Genotype.load(x) for x in (text, file, str(typed))] == 3 * [Genotype.load(name)]


def test_cells_of_nasbench201_and_of_ours_are_read_wherever_they_stand(tmp_path: Path):
    text = "|skip_connect~0|+|none~0|none~1|+|none~0|none~1|nor_conv_3x3~2|"
    genotype = Genotype.from_arch_string(text)
    (tmp_path / "cell.txt").write_text(f"{text}\n", encoding="utf-8")
    assert Genotype.load(tmp_path / "cell.txt") == Genotype.load(genotype.to_json()) == genotype


def test_a_dictionary_is_read_too():
    inside = DARTS_V2.removeprefix("Genotype(").removesuffix(")")
    for part in ("normal=", "normal_concat=", "reduce=", "reduce_concat="):
        inside = inside.replace(part, f"'{part[:-1]}': ")
    assert Genotype.load(f"{{{inside}}}") == Genotype.load("DARTS_V2")


def of_nni(**more: object) -> dict[str, object]:
    """`darts-v2` of NNI 3.0's `DARTS.load_searched_model`: four nodes of two edges by kind."""
    cells = {
        "normal": "sep_conv_3x3 0 sep_conv_3x3 1 sep_conv_3x3 0 sep_conv_3x3 1 "
        "sep_conv_3x3 1 skip_connect 0 skip_connect 0 dil_conv_3x3 2",
        "reduce": "max_pool_3x3 0 max_pool_3x3 1 skip_connect 2 max_pool_3x3 1 "
        "max_pool_3x3 0 skip_connect 2 skip_connect 2 max_pool_3x3 1",
    }
    found = {}
    for kind, edges in cells.items():
        words = edges.split()
        for i, (op, source) in enumerate(zip(words[::2], words[1::2], strict=True)):
            found[f"{kind}/op_{2 + i // 2}_{i % 2}"] = op
            found[f"{kind}/input_{2 + i // 2}_{i % 2}"] = [int(source)]
    return found | more


def test_nnis_cell_is_the_published_one_and_has_its_parameters(tmp_path: Path):
    found = Genotype.load(str(of_nni()))
    assert found == Genotype.load("DARTS_V2")
    layout = Layout.of(found, 36, 20, 10)
    assert count_parameters(DerivedNet(found, layout)) == 3_349_342
    of_version_2 = {k: v[0] if isinstance(v, list) else v for k, v in of_nni().items()}
    assert Genotype.load(str({"width": 36, "depth": 20, **of_version_2})) == found
    (tmp_path / "arch.json").write_text(json.dumps(of_nni(), indent=2))
    assert Genotype.load(tmp_path / "arch.json") == found


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"normal/input_2_0": [0, 1]}, "too many values"),
        ({"normal/op_7_0": "none"}, r"it names \['normal/op_7_0'\]"),
        ({"normal/op_5_2": "none"}, "normal/input_5_2"),
    ],
)
def test_what_is_no_cell_of_nni_is_refused(more: dict[str, object], reason: str):
    with pytest.raises(ValueError, match=rf"one of NNI {{'normal/op_2_0'.*{reason}"):
        Genotype.load(str(of_nni(**more)))


@pytest.mark.parametrize("words", ["Structure(4 nodes with {})", "_Structure(4 nodes with {})"])
def test_a_cell_in_autodl_projects_words_is_that_of_its_string(words: str, tmp_path: Path):
    bare = "|nor_conv_3x3~0|+|none~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_1x1~1|none~2|"
    text = words.format(bare)
    assert Genotype.load(text) == Genotype.from_arch_string(text) == Genotype.load(bare)
    (tmp_path / "cell.txt").write_text(text + "\n")
    assert Genotype.load(tmp_path / "cell.txt") == Genotype.load(bare)
    with pytest.raises(ValueError, match=r"is written \|op~0\|\+"):
        Genotype.load(words.format("|none~0|"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Genotype(", "was never closed"),
        ("Genotype(1)", "neither a call by names nor a dictionary"),
        ("Genotype(normal=[])", r"it names \['normal'\]"),
        (DARTS_V2.replace(", ('dil_conv_3x3', 2)", ""), "7 edges are no pairs"),
        (GDAS_V1.replace("range(2, 6)", "range(2, 10**9)"), "malformed"),
        (GDAS_V1.replace("range(2, 6)", "range(1000000000)"), "no states of a cell"),
        (GDAS_V1.replace("'sep_conv_5x5', 4", "print('x'), 4"), "malformed"),
    ],
)
def test_what_is_no_cell_is_refused(text: str, reason: str):
    with pytest.raises(ValueError, match=rf"is written Genotype\(normal=.*{reason}"):
        peer_cells(text)


def test_a_state_that_does_not_exist_is_named():
    with pytest.raises(ValueError, match="cell 'normal'"):
        Genotype.load(DARTS_V2.replace("('dil_conv_3x3', 2)", "('dil_conv_3x3', 9)"))
