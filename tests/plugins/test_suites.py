"""Everything that q2 offers by a name is held to the suite that plugins of its kind inherit."""

import importlib
from collections.abc import Iterator
from typing import Any

import pytest

from q2 import testing
from q2.plugins import builtin
from tests.docs.pages import ROOT

KINDS = {
    "PassSuite": ("step", builtin.PASSES),
    "QuantizerSuite": ("quantizer", builtin.QUANTIZERS),
    "DenoiserSuite": ("denoiser", builtin.DENOISERS),
    "ExporterSuite": ("exporter", builtin.EXPORTERS),
    "MetricSuite": ("metric", builtin.METRICS),
    "StrategySuite": ("strategy", builtin.STRATEGIES),
    "EngineSuite": ("engine", builtin.ENGINES),
}
"""By suite, the attribute that names what is tested, and what q2 offers of that kind."""


def below(suite: type[Any]) -> Iterator[type[Any]]:
    """Yield every class that inherits a suite."""
    for each in suite.__subclasses__():
        yield from (each, *below(each))


@pytest.mark.parametrize("suite", KINDS)
def test_each_inherits_the_suite_of_its_kind(suite: str) -> None:
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        if "Suite):" in file.read_text(encoding="utf-8"):
            importlib.import_module(".".join(file.relative_to(ROOT).with_suffix("").parts))
    attribute, offered = KINDS[suite]
    classes = [each for each in below(getattr(testing, suite)) if each.__name__.startswith("Test")]
    held = {getattr(each, attribute).name for each in classes if hasattr(each, attribute)}
    assert sorted(set(offered) - held) == []
