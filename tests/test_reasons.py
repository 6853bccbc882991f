from darts_gdas.reasons import reason


def test_lines_become_one_and_a_long_text_is_cut():
    assert reason(ValueError(" a\n\tb  c ")) == "a b c"
    assert reason(KeyError("x\ny"), named=True) == r"KeyError: 'x\ny'"
    assert reason(OSError("x" * 400)) == "x" * 300 and reason(OSError("abc"), most=2) == "ab"
