"""What plugins offer to ``q2 export``: formats; torch is not imported for their names."""

from typing import TYPE_CHECKING

from q2.plugins import Kind

if TYPE_CHECKING:
    from q2.exporters.base import Exporter

__all__ = ["EXPORTERS"]

EXPORTERS: "Kind[Exporter]" = Kind("q2_exporters", "q2.exporters.base:Exporter")
"""The formats that ``q2 export`` writes."""
