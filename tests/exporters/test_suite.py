"""The exporters that ship keep to the suite that plugins' exporters are held to."""

from q2.exporters.dequantized import Dequantized
from q2.exporters.gguf import Gguf
from q2.testing import ExporterSuite


class TestDequantized(ExporterSuite):
    exporter = Dequantized


class TestGguf(ExporterSuite):
    exporter = Gguf
    out = "model.gguf"
