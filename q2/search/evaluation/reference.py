"""The full-precision reference: images, latents, outputs for its own inputs; made once, kept in files for workers."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor
from torch.utils import _pytree as pytree

from q2.denoisers import Denoiser, Samples
from q2.denoisers.recorded import RecordedCall, record_calls
from q2.errors import TrialError, why
from q2.files import replacing
from q2.graph import Graph
from q2.progress import Progress, silent
from q2.search.metrics.base import Array, Chunk, ForwardMetric, ImageMetric, Metric, Outputs
from q2.search.metrics.contract import check_forward, check_images, named_metric, rows_of
from q2.search.metrics.finite import NotFiniteError, check_finite, check_samples
from q2.search.metrics.folder import pictures, samples_of
from q2.settings import EvaluationSettings, Fidelity

__all__ = ["Reference", "drawn"]

_BYTE = 255


class Reference:
    """Full precision's side of every comparison, in files in `folder`. `make` writes what is missing.

    The files of one folder belong to one denoiser and one `[search.evaluation]`: the trial store beside them checks.
    """

    def __init__(self, folder: Path, settings: EvaluationSettings) -> None:
        self.folder, self.settings = folder, settings

    def make(
        self,
        denoiser: Denoiser,
        graph: Graph,
        fidelities: Sequence[Fidelity],
        metrics: Sequence[Metric],
        progress: Progress = silent,
    ) -> float:
        """Write what is missing for trials at `fidelities`, before the graph is quantized; return the seconds it took.

        Plugins' `metrics` are tried as soon as there is something to try them on. Raises `TrialError`: on a full disk,
        where full precision itself gives NaN or infinity, and for a metric that returns what it must not.
        """
        start = time.perf_counter()
        forward = [metric for metric in metrics if isinstance(metric, ForwardMetric)]
        images = [metric for metric in metrics if isinstance(metric, ImageMetric)]
        try:
            if forward and "weights" not in fidelities[:1]:
                self._make_calls(denoiser, graph, [metric for metric in forward if metric.owner != "q2"])
            self._make_real([metric for metric in images if metric.against == "real"], progress)
            for fidelity in fidelities:
                if fidelity in ("few-step", "full") and images:
                    self._make_images(denoiser, graph, fidelity, images, progress)
        except OSError as error:
            raise TrialError(f"{self.folder}: cannot be written: {why(error)}") from error
        return time.perf_counter() - start

    def chunks(self, fidelity: Fidelity) -> list[range]:
        """Return the numbers of the images, a batch at a time."""
        count = self.settings.few_images if fidelity == "few-step" else self.settings.images
        batch = self.settings.batch
        return [range(first, min(first + batch, count)) for first in range(0, count, batch)]

    def samples(self, fidelity: Fidelity, chosen: range) -> Samples:
        """Return full precision's images of a chunk."""
        found = _read(self._images(fidelity, chosen))
        return Samples(found["images"].float() / _BYTE, found["labels"], found["latents"])

    def rows(self, fidelity: Fidelity, metric: ImageMetric) -> Array | None:
        """Return the rows (N, ...) that a metric compares with, of full precision or of the real images, if any."""
        if metric.against == "full":
            found = [_read(self._rows(fidelity, metric.name, chosen))["rows"] for chosen in self.chunks(fidelity)]
            return np.asarray(torch.cat(found))
        return np.asarray(_read(self._real(metric.name))["rows"]) if metric.against == "real" else None

    def calls(self) -> Iterator[RecordedCall]:
        """Yield full precision's calls, in the order in which they were made."""
        with safe_open(self._calls, framework="pt") as file:
            head = json.loads(file.metadata()["calls"])
            labels = np.array(head["labels"])
            for number, entry in enumerate(head["calls"]):
                leaves = [
                    file.get_tensor(f"{number}.{i}") if leaf is None else leaf["value"]
                    for i, leaf in enumerate(entry["leaves"])
                ]
                args, kwargs = pytree.tree_unflatten(leaves, pytree.treespec_loads(entry["spec"]))
                images = np.array(entry["images"])
                yield RecordedCall(args, kwargs, file.get_tensor(f"{number}.output"), images, labels[images])

    def _make_calls(self, denoiser: Denoiser, graph: Graph, tried: Sequence[ForwardMetric]) -> None:
        if not (self._calls.exists() and _is_current(self._calls)):
            with _finite(denoiser):
                self._write_calls(denoiser, graph)
        if tried:
            calls = list(self.calls())
            full = np.asarray(torch.cat([call.output for call in calls]).double())
            images, labels = (np.concatenate([getattr(call, key) for call in calls]) for key in ("images", "labels"))
            check_forward(tried, Outputs(full, full, np.ones(len(calls)), images, labels))

    def _write_calls(self, denoiser: Denoiser, graph: Graph) -> None:
        wanted = self.settings
        steps, count = wanted.few_steps, max(1, wanted.inputs // wanted.few_steps)
        calls, made = record_calls(denoiser, graph, count, seed=wanted.seed, steps=steps, batch=wanted.batch)
        check_finite(torch.cat([call.output for call in calls]), "outputs", "input")
        tensors: dict[str, Tensor] = {}
        heads = []
        for number, call in enumerate(calls):
            leaves, spec = pytree.tree_flatten((call.args, call.kwargs))
            held = {f"{number}.{i}": leaf for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)}
            tensors |= {name: tensor.contiguous() for name, tensor in held.items()}
            tensors[f"{number}.output"] = call.output.contiguous()
            plain = [None if isinstance(leaf, Tensor) else {"value": leaf} for leaf in leaves]
            heads.append({"spec": pytree.treespec_dumps(spec), "leaves": plain, "images": call.images.tolist()})
        _write(self._calls, tensors, {"calls": json.dumps({"calls": heads, "labels": made.labels.tolist()})})

    def _make_images(
        self,
        denoiser: Denoiser,
        graph: Graph,
        fidelity: Fidelity,
        metrics: Sequence[ImageMetric],
        progress: Progress,
    ) -> None:
        chunks = self.chunks(fidelity)
        for chosen in progress(chunks, f"full precision, {fidelity}", len(chunks)):
            path = self._images(fidelity, chosen)
            if not path.exists():
                with _finite(denoiser):
                    made = drawn(denoiser, graph, chosen, self.settings, fidelity)
                images = (made.images * _BYTE).round().to(torch.uint8)
                _write(path, {"images": images, "labels": made.labels, "latents": made.latents}, {})
            if not chosen.start:
                full = self.samples(fidelity, chosen)
                check_images([metric for metric in metrics if metric.owner != "q2"], Chunk(full, full))
            for metric in metrics:
                beside = self._rows(fidelity, metric.name, chosen)
                if metric.against == "full" and not beside.exists():
                    full = self.samples(fidelity, chosen)
                    with named_metric(metric.name, metric.owner):
                        rows = rows_of(metric, Chunk(full, full), chosen.start)
                    _write(beside, {"rows": torch.from_numpy(rows)}, {})

    def _make_real(self, metrics: Sequence[ImageMetric], progress: Progress) -> None:
        """Work out the rows of the real images, one image at a time: their sizes differ."""
        missing = [metric for metric in metrics if not self._real(metric.name).exists()]
        if not missing:
            return
        files = pictures(self.settings.reference)
        rows: dict[str, list[Array]] = {metric.name: [] for metric in missing}
        for number, file in enumerate(progress(files, "real images", len(files))):
            image = samples_of(file)
            chunk = Chunk(image, image)
            for metric in missing:
                with named_metric(metric.name, metric.owner):
                    rows[metric.name].append(rows_of(metric, chunk, number))
        for name, found in rows.items():
            _write(self._real(name), {"rows": torch.from_numpy(np.concatenate(found))}, {})

    def _real(self, metric: str) -> Path:
        return self.folder / f"real-{metric}.safetensors"

    @property
    def _calls(self) -> Path:
        return self.folder / "calls.safetensors"

    def _images(self, fidelity: Fidelity, chosen: range) -> Path:
        return self.folder / fidelity / f"{chosen.start:06}.safetensors"

    def _rows(self, fidelity: Fidelity, metric: str, chosen: range) -> Path:
        return self.folder / fidelity / f"{metric}-{chosen.start:06}.safetensors"


def drawn(denoiser: Denoiser, graph: Graph, chosen: range, settings: EvaluationSettings, fidelity: Fidelity) -> Samples:
    """Draw some of the images of a fidelity; pixels are rounded to bytes, as files and people have them.

    Raises `NotFiniteError` for latents and pixels that are NaN or infinite, which rounding would hide.
    """
    steps = settings.few_steps if fidelity == "few-step" else settings.steps or None
    with graph.installed(), torch.no_grad():
        made = denoiser.generate(len(chosen), first=chosen.start, seed=settings.seed, steps=steps, batch=settings.batch)
    check_samples(made, chosen.start)
    return Samples((made.images.clamp(0, 1) * _BYTE).round() / _BYTE, made.labels, made.latents)


@contextmanager
def _finite(denoiser: Denoiser) -> Iterator[None]:
    """Say that it is full precision which gives NaN or infinity: an error of the run."""
    try:
        yield
    except NotFiniteError as error:
        hint = '; try denoiser.dtype = "bfloat16" or "float32"' if denoiser.dtype == torch.float16 else ""
        raise TrialError(f"full precision itself: {error}{hint}") from error


def _is_current(path: Path) -> bool:
    """Return whether a file of calls is of this version; what earlier ones wrote is made again."""
    with safe_open(path, framework="pt") as file:
        return isinstance(json.loads(file.metadata()["calls"]), dict)


def _write(path: Path, tensors: dict[str, Tensor], head: dict[str, str]) -> None:
    """Write a file; a `head` has one entry, as safetensors writes several in an order that differs from run to run."""
    with replacing(path) as beside:
        beside.write_bytes(save({name: tensor.contiguous() for name, tensor in tensors.items()}, head or None))


def _read(path: Path) -> dict[str, Tensor]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
