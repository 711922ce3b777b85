"""Lists of what units want, and the space of the best."""

import pytest

from q2.errors import PredictorError
from q2.search.predictor.combined import combined, named_parts
from q2.search.predictor.ranking import ranked, reduced
from tests.search.predictor.labelled import OPTIONS, labels, space


def test_variants_are_listed_best_first_with_their_bits_and_spread() -> None:
    of, where = labels(), space()
    rows = ranked(where, combined([of], "unit"))
    assert len(rows) == 18
    first = rows[0]
    best = of.units[0].best
    assert (first.name, first.kind, first.rank, first.of) == ("a", "attn", 1, 9)
    assert first.options == tuple(OPTIONS[best[layer]] for layer in ("a.q", "a.k"))
    total = of.units[0].scores.sum(1)
    assert first.score == pytest.approx(total.max())
    assert first.spread == pytest.approx(total.max() - total.min())
    assert first.avg_bits == pytest.approx(sum(4 - best[layer] for layer in ("a.q", "a.k")) / 2)
    assert [row.score for row in rows[:9]] == sorted((row.score for row in rows[:9]), reverse=True)


def test_rows_are_filtered_and_sorted() -> None:
    where, parts = space(), combined([labels()], "node")
    assert {row.name for row in ranked(where, parts, match=r"^b\.")} == {"b.up", "b.down"}
    assert {row.name for row in ranked(where, combined([labels()], "unit"), match="ff")} == {"b"}
    assert {row.options for row in ranked(where, parts, option="uaq-3")} == {("uaq-3",)}
    assert [row.rank for row in ranked(where, parts, top=1)] == [1, 1, 1, 1]
    scores = [row.score for row in ranked(where, parts, sort="score")]
    assert scores == sorted(scores, reverse=True)
    spreads = [row.spread for row in ranked(where, parts, sort="spread", top=1)]
    assert spreads == sorted(spreads, reverse=True)
    assert [row.name for row in ranked(where, parts, sort="name", top=1)] == ["a.k", "a.q", "b.down", "b.up"]
    bits = [row.avg_bits for row in ranked(where, parts, sort="avg_bits")]
    assert bits == sorted(bits)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"match": "("}, r"'\(': no regular expression"),
        ({"match": "a.qq"}, "no unit or layer that 'a.qq' is found in"),
        ({"option": "uaq-5"}, "no option 'uaq-5' in these labels"),
    ],
)
def test_what_is_not_there_is_one_line(given: dict[str, str], line: str) -> None:
    with pytest.raises(PredictorError, match=line):
        ranked(space(), combined([labels()], "node"), match=given.get("match", ""), option=given.get("option", ""))


def test_the_best_of_every_unit_make_a_space() -> None:
    of, where = labels(), space()
    made = reduced(where, [combined([of], "unit")], 2, "by a test")
    assert made.subject == where.made.subject
    assert [unit.layers for unit in made.units] == [("a.q", "a.k"), ("b.up", "b.down")]
    for unit, scored in zip(made.units, of.units, strict=True):
        assert len(unit.variants) == 2
        assert unit.variants[0] == tuple(OPTIONS[i] for i in scored.best.values())


def test_of_several_files_the_union_has_the_best_of_each() -> None:
    where, files = space(), [labels(0), labels(5)]
    each = [reduced(where, [named_parts(of, "node")], 1, "") for of in files]
    both = reduced(where, [named_parts(of, "node") for of in files], 1, "")
    for name, options in both.layers.items():
        assert options == tuple(dict.fromkeys(own.layers[name][0] for own in each))
    assert any(len(options) == 2 for options in both.layers.values())
