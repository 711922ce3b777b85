"""Training of a session's module: a line an epoch, weights that the run file can name, TensorBoard where asked for."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

from safetensors.torch import save

from q2.files import replacing, write_json
from q2.models.evaluation import Score, evaluate
from q2.models.training import train
from q2.passes import PassManager, Step, is_transform
from q2.session.modules.session import ModuleSession
from q2.session.report import manifest, writing

__all__ = ["Trained", "train_module"]


@dataclass(frozen=True, eq=False)
class Trained:
    """The score on the test split, the epochs (training loss and validation score), and the files."""

    score: Score
    epochs: list[dict[str, float]]
    files: list[Path] = field(default_factory=list)


def train_module(session: ModuleSession, folder: Path) -> Trained:
    """Apply the session's transforms, train the module, and write its weights and settings into `folder`.

    Quantized layers are trained through their rounding (see `q2.quant.arithmetic`). Raises `Q2Error`.
    """
    session = session.fork()
    model, graph = session.model, session.graph
    with session.at("data"):
        data = model.need_data("q2 train")
    manager = PassManager(session.passes, session.context(), only=is_transform)
    with session.at():
        for result in manager.each(graph):
            session.show(Step(result.title, result.seconds, result.report.summary))
    epochs: list[dict[str, float]] = []

    def after(epoch: int, loss: float, score: Score) -> None:
        epochs.append({"epoch": epoch, "train_loss": loss, "accuracy": score.accuracy, "loss": score.loss})
        line = f"training loss {loss:.4f} · validation: accuracy {score.accuracy:.4f}, loss {score.loss:.4f}"
        said = session.plugins.after_epoch(epoch, epochs[-1], folder)
        session.show(Step(f"epoch {epoch}", score.seconds, " · ".join([line, *said])))

    with session.at("train"):
        train(model.module, data, session.settings.train, seed=session.settings.seed, after=after)
    score = evaluate(model.module, data, "test")
    trained = Trained(score, epochs)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / "model.safetensors") as beside:
            beside.write_bytes(save({name: each.contiguous() for name, each in model.module.state_dict().items()}))
        session.write_settings(folder)
        write_json(folder / "manifest.json", manifest(session, model, "train"))
        write_json(folder / "report.json", {"test": asdict(score), "epochs": epochs})
    names = ("model.safetensors", "effective.toml", "manifest.json", "report.json")
    trained.files.extend(folder / name for name in names)
    return trained
