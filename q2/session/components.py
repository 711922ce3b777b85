"""The other parts of a session's pipeline, quantized as ``[components]`` says."""

from collections.abc import Mapping
from typing import Any

from q2.config import Key, dotted
from q2.denoisers import Denoiser
from q2.denoisers.components import ComponentSize, check_components, component_size, linears, quantize_component
from q2.errors import ConfigError
from q2.passes import Step
from q2.passes.transform.quantize import Quantize
from q2.quant.kinds import QUANTIZERS
from q2.quant.simulated import Quantized
from q2.session.session import Session

__all__ = ["check_parts", "quantize_parts_of"]


def check_parts(session: Session) -> None:
    """Raise `ConfigError`, with file and key, for a part that is not there or an option that nobody offers."""
    wanted = session.settings.components
    if not wanted:
        return
    rules = {name: _rules(session, name) for name in wanted}
    denoiser = session.create_denoiser()
    if denoiser.checkpoint is None:
        if denoiser.weights != "meta":
            with session.at("components"):
                raise ConfigError("random weights have no other parts; give a checkpoint with them")
        return
    with session.at("denoiser", "checkpoint"):
        denoiser.checkpoint.check_pipeline()
        there = denoiser.checkpoint.parts()
    with session.at():
        check_components(list(rules), there, denoiser.component)


def quantize_parts_of(session: Session, denoiser: Denoiser) -> list[ComponentSize]:
    """Quantize the parts of a denoiser's pipeline in place, show a line for each, and return their sizes.

    Raises `ConfigError` for a part without Linear layers.
    """
    sizes = []
    for name in session.settings.components:
        part: Any = denoiser.pipeline().components[name]
        if any(isinstance(module, Quantized) for module in part.modules()):
            continue  # as the folder that it was loaded from has it
        with session.at("components", name):
            types = dict.fromkeys(linears(part), "linear")
            if not types:
                raise ConfigError(f"{type(part).__name__} has no Linear layers")
            options = _rules(session, name).choose(types, session.plugins.of(QUANTIZERS))
            prec = session.settings.prec
            quantize_component(part, options, session.plugins, prec=prec, progress=session.progress)
            sizes.append(component_size(name, part, session.plugins, prec))
        session.show(Step("component", 0, sizes[-1].summary))
    return sizes


def _rules(session: Session, name: str) -> Quantize:
    said = session.settings.components[name].quantize

    def where(key: Key) -> str:
        return dotted(("components", name, "quantize", *key))

    with session.at():
        table: Mapping[str, Any] = {"default": said} if isinstance(said, str) else said
        step = Quantize.from_table(dict(table), where)
        if step.by == "recipe":
            raise ConfigError(f"{where(('by',))}: a recipe is the denoiser's; expected type, name or regex")
        step.check_options(session.plugins.of(QUANTIZERS))
        return step
