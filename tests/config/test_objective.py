"""What runs are judged by: names, and what they read among closing figures."""

import math

import pytest

from darts_gdas.config.objective import OF_SEARCH, OF_TRAINING, names_of, values_of
from tests.test_config import search_config

SEARCHED = {
    "metrics": {"validation/accuracy": 0.75},
    "parameters": 10,
    "multiply_adds": 200,
    "seconds": 1.5,
    "benchmark": {"accuracy": 93.1},
}
TRAINED = {"test": {"accuracy": 0.5, "balanced_accuracy": 0.25}, "seconds": 2}


def test_a_name_gives_a_number_and_a_list_one_for_each():
    assert values_of("validation_accuracy", OF_SEARCH, SEARCHED) == 0.75
    several = ["known_accuracy", "multiply_adds", "parameters", "seconds"]
    assert values_of(several, OF_SEARCH, SEARCHED) == (93.1, 200, 10, 1.5)
    assert values_of(["validation_accuracy"], OF_SEARCH, SEARCHED) == (0.75,)
    assert values_of(["accuracy", "balanced_accuracy"], OF_TRAINING, TRAINED) == (0.5, 0.25)


def test_what_a_run_has_not_measured_is_no_number():
    assert math.isnan(values_of("validation_accuracy", OF_SEARCH, {}))  # type: ignore[arg-type]
    assert math.isnan(values_of("accuracy", OF_TRAINING, {}))  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["acuracy", [], ["seconds", "seconds"], ["seconds", "x"], None])
def test_unknown_names_list_what_exists(value: object):
    with pytest.raises(ValueError, match="one, or a list of different ones, of validation_acc"):
        names_of(value, OF_SEARCH)


def test_a_search_says_which_objective_it_will_not_measure():
    assert search_config("objective=[validation_accuracy,seconds]").objective == [
        "validation_accuracy",
        "seconds",
    ]
    with pytest.raises(ValueError, match="known_accuracy asks known accuracies; pass benchmark="):
        search_config("objective=known_accuracy")
    with pytest.raises(ValueError, match="selected_accuracy is of a cell that the trained"):
        search_config("objective=selected_accuracy", "method=gdas")
    assert search_config("objective=selected_accuracy", "method=darts_pt")
