"""Every metric says what it is, and can be named in a target."""

from q2.search.metrics.base import METRICS
from q2.search.target import Target


def test_every_metric_can_be_named_in_a_target() -> None:
    trial = {name: index + 0.5 for index, name in enumerate(METRICS)}
    for name, metric in METRICS.items():
        assert metric.sign == (1 if metric.better == "higher" else -1)
        assert Target.parse(f"{metric.sign}*{name} - 2*avg_bits", METRICS).value(trial) == metric.sign * trial[name] - 1


def test_the_target_of_the_paper_reads_as_written() -> None:
    assert Target.parse("-1*FID-GT-1k - avg_bits*150", METRICS).metrics == ("FID-GT-1k", "avg_bits")
