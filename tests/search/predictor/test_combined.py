"""Several files of labels: each weighs the same, and what does not fit together is one line."""

from dataclasses import replace

import numpy as np
import pytest

from q2.errors import PredictorError
from q2.search.predictor.combined import combined, named_parts, with_known
from q2.search.predictor.label import Labels
from q2.search.predictor.provenance import Provenance
from q2.search.predictor.scores import Level
from q2.search.subject import Subject
from tests.search.predictor.labelled import LAYERS, MADE, labels, space


@pytest.mark.parametrize("level", ["unit", "node"])
def test_a_files_weight_does_not_depend_on_its_scale_or_folds(level: Level) -> None:
    one, other = labels(0), labels(1, folds=5)
    plain = combined([one, other], level)
    scaled = combined([labels(0, scale=1000.0), other], level)
    for a, b in zip(plain, scaled, strict=True):
        np.testing.assert_allclose(a.total, b.total)
        np.testing.assert_allclose(a.scores.mean(0), 0, atol=1e-12)
    squares = [(part.scores**2).mean(0) for part in plain]
    np.testing.assert_allclose(np.mean(squares, axis=0), 1)


def test_the_same_file_twice_ranks_as_once() -> None:
    one = labels()
    for alone, twice in zip(combined([one], "unit"), combined([one, one], "unit"), strict=True):
        assert np.array_equal(np.argsort(alone.total), np.argsort(twice.total))
        assert alone.name == twice.name


def test_one_files_scores_are_summed_over_its_folds() -> None:
    one = labels()
    for unit, part in zip(one.units, combined([one], "unit"), strict=True):
        np.testing.assert_array_equal(part.total, unit.scores.sum(1))


def test_an_option_that_a_layer_may_not_take_is_in_no_part() -> None:
    one = labels()
    one.nodes[2, 1] = np.nan
    assert named_parts(one, "node")[2].variants.tolist() == [[0], [2]]


def test_a_layer_that_no_unit_holds_is_a_part_of_its_own() -> None:
    one = labels()
    parts = named_parts(replace(one, units=one.units[1:]), "unit")
    assert [(part.name, len(part.variants)) for part in parts] == [("a.q", 3), ("a.k", 3), ("b", 9)]


def test_known_terms_of_the_target_are_added_exactly() -> None:
    made = replace(MADE, known={"avg_bits": -4.0}, scale_unit=0.5, scale_node=2.0)
    one, where = labels(made=made), space()
    added = -4.0 * where.tables["avg_bits"]
    known = with_known(where, one)
    np.testing.assert_allclose(known.nodes - one.nodes, np.repeat(added[:, :, None] / 2.0, 2, axis=2))
    unit, before = known.units[1], one.units[1]
    expected = [added[2, a] + added[3, b] for a, b in unit.variants]
    np.testing.assert_allclose((unit.scores - before.scores)[:, 0], np.array(expected) / 0.5)
    with pytest.raises(PredictorError, match="does not know 'SQNR', a term of their target"):
        with_known(where, labels(made=replace(MADE, known={"SQNR": 1.0})))


OTHER = Provenance(Subject("sdxl", "ffff"))


@pytest.mark.parametrize(
    ("other", "line"),
    [
        (labels(made=OTHER), "labels: file 2 is of sdxl (ffff), the first of toy (0a1b)"),
        (
            replace(labels(), choices=("a.q", "a.kk", *LAYERS[2:]), units=()),
            "labels: file 2 has the layer 'a.kk', the first has not; did you mean 'a.k'?",
        ),
        (
            replace(labels(), options=("uaq-4", "uaq-3"), nodes=labels().nodes[:, :2], units=()),
            "labels: file 2 has fewer options than the first, or another order",
        ),
    ],
)
def test_labels_that_do_not_belong_together_are_refused(other: Labels, line: str) -> None:
    with pytest.raises(PredictorError) as error:
        combined([labels(), other], "unit")
    assert str(error.value) == line


def test_units_whose_variants_were_not_all_scored_cannot_be_summed() -> None:
    one = labels()
    unit = one.units[0]
    short = replace(unit, variants=unit.variants[:4], scores=unit.scores[:4], complete=False)
    with pytest.raises(PredictorError, match="of 'a' the files score different variants; level 'node'"):
        combined([one, replace(one, units=(short, one.units[1]))], "unit")


def test_a_layer_in_two_units_is_refused() -> None:
    one = labels()
    with pytest.raises(PredictorError, match=r"'a\.q' is in 2 units, expected one"):
        named_parts(replace(one, units=(*one.units, one.units[0])), "unit")


def test_how_labels_were_made_is_kept_in_their_file(tmp_path: object) -> None:
    path = f"{tmp_path}/labels.npz"
    labels().save(path)
    assert Labels.load(path).made == MADE
