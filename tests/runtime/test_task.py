from darts_gdas.runtime.task import Progress


def test_progress_anneals_from_zero_to_one_over_the_epochs():
    values = [Progress(e, 5, 0, 10).annealed for e in range(5)]
    assert values == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert Progress(0, 1, 7, 10).annealed == 0.0  # one epoch: no division by zero


def test_steps_are_counted_over_the_run():
    assert Progress(3, 5, 4, 10).global_step == 34
