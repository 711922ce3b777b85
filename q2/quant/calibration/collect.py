"""Collects rows of weight layers' inputs with hooks, batch by batch, into the files of a `RowStore`."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from q2.errors import CalibrationError
from q2.files import alone
from q2.progress import Progress, silent
from q2.quant.calibration.rows import INDEX, RowPlan, is_complete, read_index, write_index, write_rows, writing
from q2.quant.calibration.sampling import Sample
from q2.quant.calibration.unfolding import Unfolding

__all__ = ["collect", "groups_of", "is_collected"]


def groups_of(layers: Mapping[str, nn.Module], readers: Mapping[str, str]) -> dict[str, str]:
    """Return every layer's group: the first layer that makes the same rows of the same tensor.

    `readers` says which layers read one tensor: each has the name of the first, which may be its own.

    >>> groups_of({"q": nn.Linear(4, 4), "k": nn.Linear(4, 8), "o": nn.Linear(4, 4)}, {"q": "q", "k": "q", "o": "o"})
    {'q': 'q', 'k': 'q', 'o': 'o'}
    """
    first: dict[tuple[str, Unfolding], str] = {}
    return {name: first.setdefault((readers[name], Unfolding.of(each)), name) for name, each in layers.items()}


def collect(
    folder: Path, plan: RowPlan, model: nn.Module, draw: Callable[[range], object], progress: Progress = silent
) -> int:
    """Draw the batches whose rows are not in `folder` yet, and return how many images these were.

    `draw` denoises the images of these numbers with `model`. The memory is that of one batch's rows. Raises
    `CalibrationError` for rows of other settings, inputs that are not finite, and for a disk that is full; what is
    complete stays.
    """
    with ExitStack() as stack:
        with writing(folder):
            stack.enter_context(alone(folder))
        seen = _start(folder, plan)
        todo = [batch for batch in range(len(plan.batches)) if not is_complete(folder, plan, seen, batch)]
        for batch in progress(todo, "calibrate", len(todo)):
            samples = {group: Sample(plan.share(batch), f"{plan.seed} {batch} {group}") for group in plan.groups}
            images = plan.batches[batch]
            with _watched(model, plan.layers, samples, f"images {images.start} to {images.stop - 1}"), torch.no_grad():
                draw(images)
            with writing(folder):
                for group, sample in samples.items():
                    values = sample.values()
                    if values is not None:
                        write_rows(folder, plan, group, batch, values)
                    seen[group][batch : batch + 1] = [sample.seen]
                write_index(folder, plan, seen)
    return sum(len(plan.batches[batch]) for batch in todo)


def is_collected(folder: Path, plan: RowPlan) -> bool:
    """Return whether all rows of a plan are in `folder`. Raises `CalibrationError` if these are of other settings."""
    if not (folder / INDEX).exists():
        return False
    seen = _known(folder, plan)
    return all(is_complete(folder, plan, seen, batch) for batch in range(len(plan.batches)))


def _start(folder: Path, plan: RowPlan) -> dict[str, list[int]]:
    """Return how many rows went by in the batches that are there; what a run that was killed left is removed."""
    seen = _known(folder, plan) if (folder / INDEX).exists() else {group: [] for group in plan.groups}
    with writing(folder):
        if not (folder / INDEX).exists():
            write_index(folder, plan, seen)
        for left in (*folder.glob(".*.safetensors"), *folder.glob(".index-*.json")):
            left.unlink()
    return seen


def _known(folder: Path, plan: RowPlan) -> dict[str, list[int]]:
    there, seen = read_index(folder)
    if difference := there.differs(plan):
        raise CalibrationError(
            f"{folder}: has rows for other settings ({difference}); choose another folder, or remove it"
        )
    return seen


@contextmanager
def _watched(model: nn.Module, layers: Mapping[str, str], samples: Mapping[str, Sample], images: str) -> Iterator[None]:
    """Let `samples` see what the first layer of every group reads, within the `with`."""
    step = 0
    last: dict[str, tuple[object, ...]] = {}

    def count(*_: object) -> None:
        nonlocal step
        step += 1

    def watch(name: str, group: str, module: nn.Module) -> Callable[..., None]:
        unfolding = Unfolding.of(module)

        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
            x: Tensor = args[0] if args else kwargs["input"]
            tensor = (x.data_ptr(), x.shape, x.stride())
            if name != group:
                if last.get(group) != tensor:
                    raise CalibrationError(f"layer {name!r} reads another tensor than {group!r}, unlike in the graph")
                return
            last[group] = tensor
            if not bool(x.isfinite().all()):
                where = f"denoising step {step} of {images}"
                raise CalibrationError(f"layer {name!r}: its input holds NaN or infinity in {where}")
            samples[group].offer(unfolding.count(x), lambda rows: unfolding.take(x, rows))

        return hook

    with ExitStack() as stack:
        stack.callback(model.register_forward_pre_hook(count).remove)
        for name, group in layers.items():
            module = model.get_submodule(name)
            handle = module.register_forward_pre_hook(watch(name, group, module), with_kwargs=True)
            stack.callback(handle.remove)
        yield
