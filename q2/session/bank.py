"""Builds the bank of a run's denoiser, and finds it again: the weights are streamed from the checkpoint's files."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from q2.denoisers import Denoiser
from q2.errors import BankError, ConfigError
from q2.graph import Graph, trace
from q2.graph.fingerprint import fingerprint, fingerprint_of
from q2.passes.base import weight_of
from q2.plugins import Plugins
from q2.progress import Progress, silent
from q2.quant import Quantizer
from q2.quant.bank import Bank, BankPlan, LayerPlan, build
from q2.quant.resolve import known_option

__all__ = ["BankReport", "bank_folder", "build_bank", "find_bank"]


@dataclass(frozen=True)
class BankReport:
    """What a build did: `fitted` of the bank's layers were not there yet. `weights` is what the layers hold."""

    bank: Bank
    fitted: int
    weights: int

    @property
    def summary(self) -> str:
        """The bank in a line."""
        plan = self.bank.plan
        full = self.weights * plan.prec / 8
        return (
            f"{len(plan.layers)} layers x {len(plan.options)} options, {self.fitted} fitted now; "
            f"{self.bank.bytes / 1e6:.2f} MB, {self.bank.bytes / full:.1%} of the weights"
        )


def bank_folder(path: str, title: str) -> Path:
    """Return where a run's bank is: `path`, or if that is empty a folder named after the denoiser."""
    return Path(path) if path else Path("bank") / title


def build_bank(
    denoiser: Denoiser,
    shapes: Denoiser,
    folder: Path,
    *,
    options: tuple[str, ...],
    prec: int,
    plugins: Plugins,
    progress: Progress = silent,
) -> BankReport:
    """Fit every option of every layer of `denoiser` into `folder`, which may hold some of them already.

    `shapes` is the same denoiser on meta, which alone is traced; the weights are read layer by layer from the
    checkpoint, and are in memory as a whole only where no file has them. Raises `BankError`, `OptionError`.
    """
    if denoiser.weights == "meta":
        raise ConfigError("weights on meta have no values to fit; choose pretrained or random ones")
    wanted = [known_option(text, plugins.quantizers) for text in options]
    if any(option.is_none for option in wanted):
        raise BankError("options: 'none' needs no bank")
    graph = trace(shapes.model, shapes.example_inputs())
    read, weights = _reader(denoiser, shapes.model)
    plan = _plan(graph, denoiser, weights, tuple(dict.fromkeys(map(str, wanted))), prec)
    finder = _finder(plugins)
    fitted = build(folder, plan, read, finder, progress)
    held = sum(layer.weights for layer in graph.weight_layers.values())
    return BankReport(Bank.open(folder, finder), fitted, held)


def find_bank(path: str, title: str, graph: Graph, denoiser: Denoiser, *, prec: int, plugins: Plugins) -> Bank | None:
    """Return the bank of a loaded denoiser; None if `path` is empty and there is none where it would be.

    Raises `BankError` if what is there is no bank, not complete, or for other weights.
    """
    folder = bank_folder(path, title)
    if not path and not folder.exists():
        return None
    bank = Bank.open(folder, _finder(plugins))
    difference = bank.plan.differs(_plan(graph, denoiser, denoiser.fingerprint, bank.plan.options, prec))
    if difference:
        raise BankError(f"{folder}: the bank does not fit ({difference}); build it anew, or name another: bank.path")
    return bank


def _plan(graph: Graph, denoiser: Denoiser, weights: str, options: tuple[str, ...], prec: int) -> BankPlan:
    layers: dict[str, LayerPlan] = {}
    for choice in graph.choices.values():
        known = layers.get(choice.layer.name)
        choices = {**(known.choices if known else {}), choice.name: choice.channels}
        layers[choice.layer.name] = LayerPlan(choice.layer.shape, choices)
    return BankPlan(denoiser.label, weights, str(denoiser.dtype).removeprefix("torch."), prec, options, layers)


def _reader(denoiser: Denoiser, shapes: nn.Module) -> tuple[Callable[[str], Tensor], str]:
    """Return what reads a layer's weight, and the fingerprint of all weights."""
    stored, names = denoiser.stored, list(shapes.state_dict())
    if stored is None or any(name not in stored for name in names):
        model = denoiser.model
        return lambda layer: weight_of(model.get_submodule(layer)), fingerprint(model)

    def tensors() -> Iterator[tuple[str, Tensor]]:
        for name in names:
            tensor = stored[name]
            yield name, tensor.to(denoiser.dtype) if tensor.is_floating_point() else tensor

    return lambda layer: stored[f"{layer}.weight"].to(denoiser.dtype), fingerprint_of(tensors())


def _finder(plugins: Plugins) -> Callable[[str], Quantizer]:
    return lambda name: plugins.quantizers.load(name)()
