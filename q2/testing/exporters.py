"""What every exporter must do, as tests that its own inherit."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest

from q2.denoisers import Denoiser, load
from q2.errors import Q2Error
from q2.exporters import Exported, Exporter
from q2.graph import trace
from q2.passes import PassContext, run_passes
from q2.passes.transform.quantize import Quantize
from q2.quant.packed.layers import pack_layer
from q2.quant.simulated import Simulated

__all__ = ["ExporterSuite"]

T = TypeVar("T")


class ExporterSuite:
    """Tests of an exporter: a subclass called ``Test…`` sets `exporter`, and pytest finds the rest.

    `out` is the name of what it writes, with its ending. One that writes other denoisers than a tiny DiT overrides
    `quantized`.
    """

    exporter: ClassVar[type[Exporter]]
    out: ClassVar[str] = "exported"

    def quantized(self) -> Denoiser:
        """Return a tiny denoiser whose layers are quantized, by uaq-4 and kmeans-c-3."""
        denoiser = load("dit", tiny=True, device="cpu")
        graph = trace(denoiser.model, denoiser.example_inputs())
        step = Quantize(by="regex", rules={"to_": "kmeans-c-3"}, default="uaq-4")
        run_passes(graph, [step], denoiser=denoiser, plugins=PassContext().plugins)
        return denoiser

    def packed(self) -> Denoiser:
        """Return the same with packed layers."""
        denoiser = self.quantized()
        for name, module in list(denoiser.model.named_modules()):
            if isinstance(module, Simulated):
                denoiser.model.set_submodule(name, pack_layer(module))
        return denoiser

    def test_it_is_a_complete_exporter(self) -> None:
        """It is made without arguments, has a name and says what it writes."""
        assert isinstance(self.exporter(), Exporter)
        assert self.exporter.name
        assert self.exporter.__doc__

    def test_it_writes_what_was_asked_for_and_nothing_beside(self, tmp_path: Path) -> None:
        """It writes to the place it is given, a folder that is not there yet included, and says so in a line."""
        done = self.exporter().export(self.quantized(), tmp_path / "new" / self.out)
        assert isinstance(done, Exported)
        assert done.summary
        assert "\n" not in done.summary
        assert [path.name for path in (tmp_path / "new").iterdir()] == [self.out]
        assert any(_contents(tmp_path / "new" / self.out).values())

    def test_simulated_and_packed_layers_give_the_same_bytes_every_time(self, tmp_path: Path) -> None:
        """What is written depends on the quantized weights alone."""
        found = []
        for number, denoiser in enumerate((self.quantized(), self.quantized(), self.packed())):
            self.exporter().export(denoiser, tmp_path / str(number) / self.out)
            found.append(_contents(tmp_path / str(number) / self.out))
        assert found[0] == found[1]
        assert found[0] == found[2]

    def test_a_place_that_cannot_be_written_to_is_one_line(self, tmp_path: Path) -> None:
        """A file stands where the folder should be: an error that names the place, and nothing is left."""
        (tmp_path / "file").write_text("mine", encoding="utf-8")
        with pytest.raises(Q2Error) as error:
            self.exporter().export(self.quantized(), tmp_path / "file" / self.out)
        assert str(tmp_path / "file") in str(error.value)
        assert "\n" not in str(error.value)
        assert _contents(tmp_path) == {"file": b"mine"}

    def test_an_export_that_is_stopped_leaves_nothing(self, tmp_path: Path) -> None:
        """Ctrl-C while it shows progress: no half-written file is there, under any name."""
        try:
            self.exporter().export(self.quantized(), tmp_path / "new" / self.out, _stopped)
        except KeyboardInterrupt:
            assert _contents(tmp_path) == {}


def _stopped(
    items: Iterable[T], label: str, total: int | None = None, note: Callable[[Any], str] | None = None
) -> Iterator[T]:
    """Yield one item, then stop as Ctrl-C does."""
    yield next(iter(items))
    raise KeyboardInterrupt


def _contents(place: Path) -> dict[str, bytes]:
    if place.is_file():
        return {"": place.read_bytes()}
    return {str(path.relative_to(place)): path.read_bytes() for path in sorted(place.rglob("*")) if path.is_file()}
