"""Tables never are wider than they may be, whatever is in them, and say all that fits."""

import random
import string

import pytest

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


@pytest.mark.parametrize("width", [40, 80, 100, 200])
def test_no_line_is_wider_than_the_screen(width: int) -> None:
    rng = random.Random(width)
    heads = ("layer", "option", "weights", "bits", "SQNR dB", "what it is")

    def cell() -> str | float:
        words = (
            "".join(rng.choices(string.ascii_letters + "._", k=rng.randint(1, 40))) for _ in range(rng.randint(0, 9))
        )
        return rng.uniform(0, 1e6) if rng.random() < 0.4 else " ".join(words)

    for _ in range(40):
        rows = [tuple(cell() for _ in heads) for _ in range(rng.randint(1, 4))]
        assert max(map(len, fitted(heads, rows, width).splitlines())) <= width
