import math
import re

import pytest

from darts_gdas.runtime.picture_settings import (
    check_channels,
    check_limits,
    check_range,
    check_sizes,
)


def test_the_ends_of_what_is_allowed_pass():
    check_sizes(1, None)
    check_sizes(None, None)
    check_channels(1)
    check_channels(3)
    check_limits(math.ulp(0.0), math.inf)
    check_range(None)
    check_range([-1.0, math.nextafter(-1.0, 0.0)])


@pytest.mark.parametrize(
    ("check", "values", "told"),
    [
        (check_sizes, (0, 8), "dataset.image_size must be at least 1 pixel, got 0"),
        (check_sizes, (8, -1), "dataset.image_width must be at least 1 pixel, got -1"),
        (check_channels, (2,), "dataset.channels must be 3 (colour) or 1 (grey), got 2"),
        (check_channels, (None,), "dataset.channels must be 3 (colour) or 1 (grey), got None"),
        (check_limits, (0.0, 1.0), "dataset.max_gigabytes must be positive, got 0.0"),
        (check_limits, (1.0, math.nan), "dataset.max_megapixels must be positive, got nan"),
        (check_range, ([1.0, 1.0],), "the first less than the second, got [1.0, 1.0]"),
        (check_range, ([0.0, math.inf],), "the first less than the second, got [0.0, inf]"),
        (check_range, ([1.0],), "dataset.value_range must be two numbers"),
    ],
)
def test_what_is_not_is_named_with_its_value(check, values, told: str):
    with pytest.raises(ValueError, match=re.escape(told)):
        check(*values)
