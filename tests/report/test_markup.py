import json
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from darts_gdas.report.markup import Markup, element, join, table, values

PRINTABLE = st.text(st.characters(exclude_categories=["Cc", "Cs", "Cn"]))


@given(PRINTABLE, PRINTABLE)
def test_any_text_comes_back_as_it_went_in(text: str, value: str):
    parsed = ElementTree.fromstring(element("p", text, class_=value))
    assert (parsed.text or "") == text and parsed.get("class") == value and len(parsed) == 0


def test_markup_is_not_escaped_twice():
    inner = element("b", "a & b")
    assert element("p", inner, " < ") == "<p><b>a &amp; b</b> &lt; </p>"
    assert join(inner, "<") == "<b>a &amp; b</b>&lt;"
    assert isinstance(join("x"), Markup)


def test_attributes_are_numbers_in_few_digits_or_left_out():
    assert element("i", x=1.0, y=2.345, z=None, aria_label="a") == (
        '<i x="1" y="2.35" aria-label="a"></i>'
    ).replace("2.35", f"{2.345:.2f}")
    assert element("meta", charset="utf-8") == '<meta charset="utf-8">'


def test_the_first_column_of_a_table_names_its_rows():
    parsed = ElementTree.fromstring(table(["a", "b"], [["x", "1"], ["y", "<"]]))
    assert [[cell.tag for cell in row] for row in parsed.iter("tr")] == [
        ["th", "th"], ["th", "td"], ["th", "td"],
    ]  # fmt: skip
    assert [cell.text for cell in parsed.iter("td")] == ["1", "<"]


@given(st.dictionaries(PRINTABLE, PRINTABLE))
def test_no_text_ends_the_values_of_a_page(data: dict[str, str]):
    text = values(data)
    assert text.count("<") == 2 and json.loads(text.partition(">")[2][: -len("</script>")]) == data
