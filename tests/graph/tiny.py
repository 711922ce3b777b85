"""The six families for the tracer's tests: tiny or at full size, with what the full ones must count."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from q2.denoisers import load
from q2.denoisers.family import Family as Kind

Inputs = dict[str, Any]


@dataclass(frozen=True)
class Family:
    """A family by name; `table` is weight layers, weights in them, GMACs at batch 1 and full size."""

    name: str
    table: tuple[int, int, float]

    def _kind(self, full: bool, device: str) -> Kind:
        kind = load(self.name, weights="meta" if device == "meta" else "random", tiny=not full, device="cpu")
        assert isinstance(kind, Kind)
        return kind

    def build(self, *, full: bool = False, device: str = "cpu") -> nn.Module:
        return self._kind(full, device).model

    def example(
        self,
        *,
        full: bool = False,
        device: str = "cpu",
        batch: int = 1,
        size: int | None = None,
        timestep: int = 500,
        text: int | None = None,
    ) -> Inputs:
        inputs = self._kind(full, device).example_inputs(batch, size=size, timestep=timestep, tokens=text)
        return dict(inputs)


FAMILIES = {
    family.name: family
    for family in (
        Family("dit", (255, 716_986_368, 118.67)),
        Family("pixart-alpha", (287, 610_228_224, 617.99)),
        Family("pixart-sigma", (287, 610_228_224, 3316.79)),
        Family("hunyuan", (468, 1_499_645_952, 7180.75)),
        Family("sdxl", (794, 2_565_880_320, 794.39)),
        Family("sdv15", (282, 859_077_120, 401.64)),
    )
}
