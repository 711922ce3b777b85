"""Tables as text: aligned, the first rows of a long one."""

from collections.abc import Sequence

__all__ = ["LIMIT", "drawn", "facts"]

LIMIT = 20
"""How many rows a table shows on a terminal."""


def drawn(
    headers: Sequence[str], rows: Sequence[Sequence[object]], form: str = "simple", limit: int | None = LIMIT
) -> str:
    """Return a table as text (``simple``), its first rows up to `limit`, or as ``html``, with all.

    >>> print(drawn(("layer", "weights"), [("proj", 12.5)]))
    layer      weights
    -------  ---------
    proj          12.5
    >>> drawn(("i",), [(i,) for i in range(23)]).splitlines()[-2:]
    ['19', '... 3 more']
    """
    from tabulate import tabulate

    some = rows if form == "html" else rows[:limit]
    text = str(tabulate(some, headers=headers, tablefmt=form, floatfmt=".4g", disable_numparse=[0]))
    return text if len(some) == len(rows) else f"{text}\n... {len(rows) - len(some)} more"


def facts(title: str, values: dict[str, str]) -> str:
    """Return a title with a line for each fact below, aligned; facts that are empty are left out.

    >>> print(facts("a cat", {"legs": "4", "nickname": "", "colour": "grey"}))
    a cat
      legs    4
      colour  grey
    """
    known = {name: text for name, text in values.items() if text}
    width = max(map(len, known), default=0)
    return "\n".join([title, *(f"  {name:<{width}}  {text}" for name, text in known.items())])
