"""Whether a network is promising, before it is trained."""

from darts_gdas.scoring.correlation import Correlation, kendall_tau, rank_sum, ranks, spearman
from darts_gdas.scoring.table import AccuracyTable

__all__ = ["AccuracyTable", "Correlation", "kendall_tau", "rank_sum", "ranks", "spearman"]
