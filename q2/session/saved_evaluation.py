"""A saved folder's denoiser, evaluated as recipes are: as it draws, with the activations that it quantizes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from q2.denoisers.saving.save import saved_activations
from q2.errors import ConfigError
from q2.passes import PassContext, PassManager, Step
from q2.passes.transform.quantize_activations import QuantizeActivations
from q2.search.evaluation.costs import Costs
from q2.search.evaluation.evaluator import Evaluator
from q2.search.evaluation.reference import Reference
from q2.search.trials.trial import FULL_PRECISION
from q2.session.evaluation import Ready
from q2.session.report import recipe_of
from q2.session.session import Session

__all__ = ["SavedDenoiser"]

_BOPS = "bops"


@dataclass(frozen=True, eq=False)
class SavedDenoiser:
    """A session whose denoiser is a saved folder's, loaded, the option of each of its layers, and its activations'."""

    session: Session
    layers: Mapping[str, str]
    activations: QuantizeActivations | None = None

    @classmethod
    def load(cls, session: Session, folder: Path) -> "SavedDenoiser":
        """Load what ``--save`` wrote. Raises `ConfigError` for another denoiser's than the session's."""
        other = session.with_run(session.run.with_saved(str(folder))).of_saved().fork()
        other.load_pipeline()
        if str(folder) == FULL_PRECISION or set(other.graph.choices) != set(session.outline.choices):
            name = session.shapes.label
            raise ConfigError(f"--from {folder}: is of another denoiser than {name}: its layers differ")
        layers = {name: str(option) for name, option in recipe_of(other.graph, other.context()).layers.items()}
        saved, step = saved_activations(other.denoiser.model), None
        if saved:
            step = QuantizeActivations.from_table(saved, lambda key: f"--from {folder}: activations")
        return cls(other, layers, step)

    def evaluator(self, ready: Ready, reference: Reference) -> Evaluator:
        """Return what evaluates the folder's recipe, and no other, beside `ready`'s full precision."""
        graph, ctx = self.session.graph, self.session.context()
        for step in self._quantized(self.session, ctx):
            ready.session.show(step)
        costs = self._costs(ready)
        settings = reference.settings
        return Evaluator(self.session.denoiser, graph, ctx, costs, ready.metrics, settings, reference, lambda _: None)

    def _costs(self, ready: Ready) -> Costs:
        """Return what `ready`'s options cost; BOPs are those at the folder's activations, not at the run file's."""
        steps = [step for _, step in ready.session.passes]
        if self.activations is None and not any(isinstance(step, QuantizeActivations) for step in steps):
            return ready.costs
        outline = ready.session.fork("meta")
        self._quantized(outline, outline.context())
        own = Costs.of_graph(outline.graph, ready.space, outline.context(), None)
        tables = {**ready.costs.tables, _BOPS: own.tables[_BOPS]}
        return replace(ready.costs, tables=tables, constants={**ready.costs.constants, _BOPS: own.constants[_BOPS]})

    def _quantized(self, session: Session, ctx: PassContext) -> list[Step]:
        """Quantize the activations of a session's graph as the folder's are, and return what to say of it."""
        if self.activations is None:
            return []
        results = PassManager([(self.activations.name, self.activations)], ctx).run(session.graph)
        return [Step(result.title, result.seconds, result.report.summary) for result in results]
