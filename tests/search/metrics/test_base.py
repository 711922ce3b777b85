"""Every metric says what it is, and can be named in a target."""

from q2.plugins import Plugins
from q2.search.kinds import METRICS
from q2.search.objective.target import Target


def test_every_metric_can_be_named_in_a_target() -> None:
    catalogue = Plugins(entry_points=False).of(METRICS)
    trial = {name: index + 0.5 for index, name in enumerate(catalogue)}
    for name in catalogue:
        metric = catalogue.load(name)
        assert metric.name == name
        assert metric.sign() == (1 if metric.better == "higher" else -1)
        target = Target.parse(f"{metric.sign()}*{name} - 2*avg_bits", list(catalogue))
        assert target.value(trial) == metric.sign() * trial[name] - 2 * trial["avg_bits"]


def test_the_target_of_the_paper_reads_as_written() -> None:
    assert Target.parse("-1*FID-GT-1k - avg_bits*150", ["FID-GT-1k", "avg_bits"]).metrics == ("FID-GT-1k", "avg_bits")
