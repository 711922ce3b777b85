"""The table and the picture of what was measured."""

from collections.abc import Sequence
from pathlib import Path

from .measure import Row

__all__ = ["picture", "table"]

COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf",
           "#393b79", "#637939", "#8c6d31", "#843c39", "#7b4173", "#000000")  # fmt: skip


def table(rows: Sequence[Row]) -> None:
    """Print a Markdown table, by bits that are kept."""
    print("\n| method | width | detail | bits kept | codes packed | left | latent SQNR, dB | judge-fid-fp |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for row in sorted(rows, key=lambda row: float(row["avg_bits"] or 0)):
        packed = f"{row['packed_bits']:.3f}" if row["packed_bits"] != row["avg_bits"] else ""
        left = f"{100 * float(row['left'] or 0):.2g} %" if row["left"] else ""
        cells = [row["method"], row["bits"], row["detail"], f"{row['avg_bits']:.3f}", packed, left]
        print("| " + " | ".join(map(str, [*cells, _number(row["latent_sqnr"]), _number(row["judge_fid_fp"])])) + " |")


def _number(value: str | int | float | None) -> str:
    return "not finite" if value is None else f"{value:.2f}"


def picture(rows: Sequence[Row], path: Path) -> None:
    """Draw latent SQNR against bits, a line for each method; SVG or PNG by the path's ending.

    Where a method keeps codes in more bits than they have, the bits are those of packed codes.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axes = figure.subplots()
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row["latent_sqnr"] is not None:
            name = str(row["method"])
            title = f"GGUF {_family(name)}" if name.startswith("GGUF") else name
            lines.setdefault(title, []).append((float(row["packed_bits"] or 0), float(row["latent_sqnr"])))
    for number, (title, points) in enumerate(lines.items()):
        own = title.startswith("q2")
        bits, sqnr = zip(*sorted(points), strict=True)
        width, marker, dashes = (2.0, "o", "-") if own else (1.0, "^", "--")
        colour = COLOURS[number % len(COLOURS)]
        axes.plot(bits, sqnr, dashes, color=colour, linewidth=width, marker=marker, markersize=4, label=title)
    axes.set(xlabel="bits of a weight, codes packed", ylabel="latent SQNR (dB)")
    axes.set_title(str(rows[0]["denoiser"]) if rows else "")
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=160, metadata={"Date": None} if path.suffix == ".svg" else None)


def _family(name: str) -> str:
    kind = name.split()[1]
    return "IQ" if kind.startswith("IQ") else "K" if kind.endswith("_K") else "MXFP4" if kind == "MXFP4" else "legacy"
