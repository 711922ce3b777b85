"""Tables never are wider than they may be, whatever is in them, and say all that fits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from q2.tables import fitted, middle

NAME = "transformer_blocks.0.norm1.emb.timestep_embedder.linear_1"


def test_a_table_that_fits_is_as_it_was() -> None:
    assert fitted(("layer", "bits"), [("proj", 4.25), ("conv", 16)], 80).splitlines() == [
        "layer      bits",
        "-------  ------",
        "proj       4.25",
        "conv      16",
    ]


def test_names_lose_their_middle_and_sentences_wrap() -> None:
    text = fitted(("layer", "what it is"), [(NAME, "Sizes in bits and bytes, all included.")], 50)
    assert "transformer_" in text
    assert "linear_1" in text
    assert "…" in text
    assert " ".join(word for line in text.splitlines()[2:] for word in line.split()[-4:]).count("bits and") == 1
    assert max(map(len, text.splitlines())) <= 50
    assert middle("abcdefghij", 5) == "ab…ij"


def test_columns_that_do_not_fit_go_below_with_the_first_column_again() -> None:
    heads = ["trial", *(f"metric-number-{i}" for i in range(9))]
    text = fitted(heads, [["7", *(f"{i}.25" for i in range(9))]], 60)
    blocks = text.split("\n\n")
    assert len(blocks) > 1
    assert all(block.split()[0] == "trial" for block in blocks)
    assert all(name in text for name in heads)
    assert all(f"{i}.25" in text for i in range(9))


CELLS = st.one_of(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=120), st.floats(0, 1e6))


@pytest.mark.parametrize("width", [40, 80, 100, 200])
@given(rows=st.lists(st.tuples(*[CELLS] * 6), min_size=1, max_size=4))
def test_no_line_is_wider_than_the_screen(width: int, rows: list[tuple[str | float, ...]]) -> None:
    text = fitted(("layer", "option", "weights", "bits", "SQNR dB", "what it is"), rows, width)
    assert max(map(len, text.splitlines()), default=0) <= width
