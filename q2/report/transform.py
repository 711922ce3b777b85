"""What a report says of a transform or of samples: sizes and quality, bits by layer, the pictures side by side."""

from collections.abc import Mapping
from typing import Any

from q2.report.folder import RunFolder
from q2.report.modules import tested
from q2.report.parts import Pair, Section, Summary, Table, picture
from q2.report.recipes import layer_map, summary
from q2.report.sensitivity import measured_sections

__all__ = ["sample_page", "transform_page"]

_PAIR = ("full.png", "quantized.png")
_FIELDS = ("option", "sqnr_db", "quantized_error", "output_error", "bits")


def transform_page(run: RunFolder) -> Summary:
    """Return the page of a transform's folder."""
    passes: Mapping[str, Any] = run.report.get("passes", {})
    size: Mapping[str, Any] = next((each for each in passes.values() if "full_bytes" in each), {})
    figures = [(f"{size['avg_bits']:.3f}", "bits a weight")] if "avg_bits" in size else []
    if size:
        figures.append((f"{size['bytes'] / 1e6:.4g} MB", "of weights"))
        figures.append((f"{size['full_bytes'] / size['bytes']:.2f}×", "smaller than at full precision"))
    rows = [[name, each.get("seconds"), str(each.get("summary", ""))] for name, each in passes.items()]
    first = [Table(["pass", "seconds", "result"], rows, "What every pass said.")]
    tests = tested(run)
    sections = [Section("Test data", [tests])] if tests else []
    sections += [*_samples(run), *_pictures(run)]
    if run.recipe is not None:
        layers = {name: str(option) for name, option in run.recipe.layers.items()}
        sections.append(Section("Bits by layer", [layer_map(layers)], f"The recipe: {summary(layers)}."))
    sections += measured_sections(run)
    for name, each in passes.items():
        if table := _layers(each.get("layers")):
            sections.append(Section(f"Layers: {name}", [table]))
    return Summary(run.title, "transform", _verdict(run), figures, first, sections)


def sample_page(run: RunFolder) -> Summary:
    """Return the page of a folder of samples."""
    grid = run.path / "grid.png"
    sections = _samples(run) or [Section("Samples", [picture(grid, "images with the quantized denoiser")])]
    rows = [[str(key), str(value)] for key, value in run.report.items() if not isinstance(value, dict)]
    return Summary(run.title, "samples", "", (), [Table(["of the first image", ""], rows)], sections)


def _samples(run: RunFolder) -> list[Section]:
    left, right = (run.path / name for name in _PAIR)
    if not (left.exists() and right.exists()):
        return []
    pair = Pair(picture(left, "images at full precision"), picture(right, "the same images, quantized"))
    return [
        Section("Samples", [pair], "Left of the line: full precision. Right of it: quantized, from the same noise.")
    ]


def _pictures(run: RunFolder) -> list[Section]:
    """Return the pictures that passes wrote, by name."""
    own = {*_PAIR, "samples.png"}
    found = sorted(file for kind in ("*.svg", "*.png") for file in run.path.glob(kind) if file.name not in own)
    return [Section(file.stem, [picture(file, file.stem)]) for file in found]


def _verdict(run: RunFolder) -> str:
    accuracy = run.report.get("samples", {}).get("accuracy")
    if not accuracy:
        return ""
    inside = accuracy["low"] <= 0 <= accuracy["high"]
    bounds = f"95 % interval {100 * accuracy['low']:.1f} to {100 * accuracy['high']:.1f}"
    return (
        f"Of {run.report['samples']['images']} images the judge recognises {accuracy['full']:.1%} at full precision "
        f"and {accuracy['quantized']:.1%} quantized: a loss of {100 * accuracy['loss']:.1f} points ({bounds}), "
        f"{'within' if inside else 'beyond'} noise."
    )


def _layers(layers: object) -> Table | None:
    """Return a pass's numbers by layer as a table; None for a pass whose report has no flat ones."""
    if not isinstance(layers, dict) or not layers:
        return None
    rows = [each for each in layers.values() if isinstance(each, dict)]
    names = [name for name in _FIELDS if any(name in row for row in rows)]
    if len(rows) != len(layers) or not names:
        return None
    cells = [[layer, *(row.get(name) for name in names)] for layer, row in layers.items()]
    return Table(["layer", *names], cells, "", long=True)
