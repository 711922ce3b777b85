"""Tables as text: aligned, the first rows of a long one, and never wider than they may be."""

import textwrap
from collections.abc import Sequence

__all__ = ["LIMIT", "drawn", "facts", "fitted", "middle"]

LIMIT = 20
"""How many rows a table shows on a terminal."""
_LEAST, _GAP = 12, 2
_PADDING = 2  # tabulate's, beside every head


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
    >>> print(drawn(("layer", "weights"), []))
    layer    weights
    -------  ---------
    """
    from tabulate import tabulate

    some = rows if form == "html" else rows[:limit]
    text = str(tabulate(some, headers=headers, tablefmt=form, floatfmt=".4g", disable_numparse=[0] if some else False))
    return text if len(some) == len(rows) else f"{text}\n... {len(rows) - len(some)} more"


def fitted(headers: Sequence[str], rows: Sequence[Sequence[object]], width: int) -> str:
    """Return a table as text of lines no longer than `width`.

    Text columns get narrower, the widest first and the first column last: names lose their middle, sentences wrap.
    Columns that do not fit then go below, with the first column again.

    >>> print(fitted(("layer", "bits"), [("transformer_blocks.0.attn1.to_q", 4.25)], 24))
    layer               bits
    ----------------  ------
    transfor…n1.to_q    4.25
    """
    if not headers:
        return ""
    widths = [len(head) + _PADDING for head in headers]
    natural = [
        max([widths[i], *(len(_text(row[i])) for row in rows)]) if rows else widths[i] for i in range(len(headers))
    ]
    texts = [any(isinstance(row[i], str) and not _is_number(row[i]) for row in rows) for i in range(len(headers))]
    blocks = _blocks(widths, natural, texts, width)
    parts = []
    for columns in blocks:
        chosen = [[row[i] for i in columns] for row in rows]
        parts.append(_narrow([headers[i] for i in columns], chosen, [texts[i] for i in columns], width))
    return "\n\n".join(parts)


def middle(text: str, width: int) -> str:
    """Return a name that is too long without its middle.

    >>> middle("transformer_blocks.0.attn1.to_q", 16)
    'transfor…n1.to_q'
    """
    if len(text) <= width:
        return text
    end = (width - 1) // 2
    return f"{text[: width - 1 - end]}…{text[len(text) - end :]}"


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


def _blocks(widths: Sequence[int], natural: Sequence[int], texts: Sequence[bool], width: int) -> list[list[int]]:
    """Return which columns stand side by side: as many as fit when text is at its narrowest."""
    least = [
        max(head, min(whole, _LEAST)) if text else whole
        for head, whole, text in zip(widths, natural, texts, strict=True)
    ]
    blocks, used = [[0]], least[0]
    for i in range(1, len(least)):
        if used + _GAP + least[i] > width and len(blocks[-1]) > 1:
            blocks.append([0])
            used = least[0]
        blocks[-1].append(i)
        used += _GAP + least[i]
    return blocks


def _narrow(headers: Sequence[str], rows: Sequence[Sequence[object]], texts: Sequence[bool], width: int) -> str:
    """Return the table with text columns cut one step after the other until it fits, or nothing can be cut."""
    cells = [list(row) for row in rows]
    while True:
        text = drawn(headers, cells, limit=None)
        over = max(map(len, text.splitlines())) - width
        if over <= 0:
            return text
        lengths = {i: max(_longest(row[i]) for row in cells) for i in range(len(headers)) if texts[i]}
        roomy = [i for i, length in lengths.items() if length > max(_LEAST, len(headers[i]) + _PADDING)]
        if not roomy:
            return "\n".join(line[:width] for line in text.splitlines())
        roomy = [i for i in roomy if i] or roomy  # what names a row is cut last
        widest = max(roomy, key=lambda i: lengths[i])
        others = sorted(lengths[i] for i in roomy if i != widest)
        target = max(lengths[widest] - over, others[-1] if others else 0, _LEAST, len(headers[widest]) + _PADDING)
        target = min(target, lengths[widest] - 1)
        for row, given in zip(cells, rows, strict=True):
            row[widest] = _cut(given[widest], target)


def _cut(value: object, width: int) -> object:
    if not isinstance(value, str) or len(value) <= width:
        return value
    words = value.split()
    if len(words) > 2:
        return "\n".join(textwrap.wrap(value, width, break_long_words=True, break_on_hyphens=False))
    return middle(value, width)


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _longest(value: object) -> int:
    return max(map(len, _text(value).split("\n")))


def _is_number(value: object) -> bool:
    try:
        float(str(value))
    except ValueError:
        return False
    return True
