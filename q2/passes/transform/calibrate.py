"""The pass ``calibrate``: fits the options in place again, layer after layer, to what the layers before it put out."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from q2.errors import ConfigError
from q2.passes.base import Change, PassContext, TransformPass

if TYPE_CHECKING:
    from q2.graph import Graph

__all__ = ["Calibrate"]


@dataclass(frozen=True)
class Calibrate(TransformPass):
    """Fit every quantized layer again, in the order in which they run: same options, same bytes, better numbers.

    A few images are denoised at full precision. The denoiser's calls are then computed layer by layer, as full
    precision does and with the layers so far quantized, and each layer is fitted so that from what it reads now it puts
    out what it put out then. Without `sequential` every layer is fitted to what it reads at full precision.

    `images`, `steps` (0: as the protocol says), `seed`, `batch` and `prompts` say what is drawn, as in
    ``[calibration]``; `rows` is how many rows of each input are looked at, at most. Of the denoiser's calls as many are
    used as leave intermediate tensors within `memory`, in GiB, spread evenly.
    """

    name: ClassVar[str] = "calibrate"
    requires: ClassVar[tuple[str, ...]] = ("quantize",)
    needs_weights: ClassVar[bool] = True
    per_recipe: ClassVar[bool] = True
    sequential: bool = True
    """Fit layer after layer, to what the quantized layers before make of the inputs (docs/calibration.md); false:
    to the inputs at full precision."""
    images: int = 100
    """How many images are denoised for it."""
    steps: int = 0
    """Their denoising steps; 0: as the denoiser's protocol says."""
    rows: int = 16_384
    """How many rows of every different input are used, at most."""
    seed: int = 20_000
    """The seed of the images' noise and of which rows are used; not the run's `seed`."""
    batch: int = 10
    """Images at a time."""
    prompts: tuple[str, ...] = ()
    """What the images show, in turn; empty: the denoiser's own prompts."""
    memory: float = 2.0
    """GiB that intermediate tensors may take; as many of the denoiser's calls are used as fit."""

    def check(self, graph: "Graph", ctx: PassContext) -> None:
        """Raise `ConfigError` for a number that cannot be, and for images that results are measured with."""
        for key, least in (("images", 1), ("steps", 0), ("rows", 1), ("seed", 0), ("batch", 1), ("memory", 0)):
            if getattr(self, key) < least:
                raise ConfigError(f"{key}: expected at least {least}, not {getattr(self, key)}")
        if self.seed == ctx.seed:
            raise ConfigError(f"seed: {self.seed} is the run's too: images would be those fitted to")

    def run(self, graph: "Graph", ctx: PassContext) -> Change:
        """Fit the layers again. Raises `Q2Error` where none is quantized, or a full-precision weight is gone."""
        from q2.passes.transform.refit import refit

        return refit(graph, self, ctx)

    def undo(self, graph: "Graph", ctx: PassContext) -> None:
        """Give every layer the fit that it had before."""
        from q2.passes.transform.refit import take_back

        take_back(graph, ctx)
