"""What makes a search of a program take seconds, in all tests that start one."""

TINY = (
    "method=gdas",  # the default scores 100 cells first
    "net.channels=2",
    "net.layers=3",
    "space.num_nodes=2",
    "dataset.test_fraction=0.9",
)
