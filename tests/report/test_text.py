import pytest

from darts_gdas.report.text import operation_label, text_width


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("sep_conv_3x3", "sep conv 3\u00d73"),
        ("max_pool_3x3", "max pool 3\u00d73"),
        ("nor_conv_1x1", "conv 1\u00d71"),
        ("conv_7x1_1x7", "conv 7\u00d71 1\u00d77"),
        ("skip_connect", "skip"),
        ("mixer", "mixer"),
    ],
)
def test_operations_have_readable_labels(name: str, label: str):
    assert operation_label(name) == label


def test_widths_add_up_and_scale_with_the_size():
    assert text_width("mmmm", 9.0) == pytest.approx(2 * text_width("mm", 9.0), rel=0.02)
    assert text_width("mm", 18.0) == pytest.approx(2 * text_width("mm", 9.0), rel=0.02)
