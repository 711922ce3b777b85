"""All tiny pipelines."""

from tests.denoisers.pipelines import cascades, transformers, unets, videos
from tests.denoisers.pipelines.tiny import PIPELINES, Tiny

__all__ = ["PIPELINES", "Tiny", "cascades", "transformers", "unets", "videos"]
