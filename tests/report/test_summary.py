import pytest

from darts_gdas.report.summary import count, duration, genotype_lines, limit, summary
from darts_gdas.space import Genotype


def test_a_genotype_reads_like_its_definition():
    lines = genotype_lines(Genotype.load("DARTS_V2"))
    assert lines[0] == "normal cell"
    assert lines[1] == "  node 0 = sep_conv_3x3(c_k-2) + sep_conv_3x3(c_k-1)"
    assert lines[4] == "  node 3 = skip_connect(c_k-2) + dil_conv_3x3(node 0)"
    assert lines[5] == "  output = concat(node 0, node 1, node 2, node 3)"
    assert len(lines) == 12


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(41.6, "42 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")],
)
def test_durations_are_for_people(seconds: float, text: str):
    assert duration(seconds) == text


def test_counts_are_for_people():
    assert count(1_930_618) == "1,930,618"
    assert count(528_359_040) == "528.4 M"


def test_the_summary_aligns_its_facts_and_ends_with_the_next_command():
    text = summary("Done", {"a": "1", "long": "2"}, ["body"], "python train.py")
    assert text.splitlines() == [
        "", "Done", "====", "body", "", "a     1", "long  2", "", "Next:", "  python train.py",
    ]  # fmt: skip


def test_a_limit_is_told_in_its_unit():
    held = {"quantity": "multiply_adds", "target": 33_547.6, "found": 32_898.0}
    assert limit(held) == ("33,547", "multiply-adds")
    assert limit(held | {"quantity": "latency", "target": 0.123456}) == ("0.1235", "ms")
    sized = held | {"channels": 8, "layers": 3, "share": None}
    assert limit(sized) == ("33,547", "multiply-adds at C=8, L=3")
    told = "multiply-adds at C=8, L=3, penalties.cost.share=0.6"
    assert limit(sized | {"share": 0.6}) == ("33,547", told)


@pytest.mark.parametrize("damaged", [None, 3, {}, {"quantity": "latency", "target": "many"}])
def test_no_limit_is_told_where_none_is_known(damaged: object):
    assert limit(damaged) is None
