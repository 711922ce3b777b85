"""Facts: typed, named, dropped by transforms."""

import pytest

from q2.errors import Q2Error
from q2.graph import Fact, Facts

MACS = Fact("macs", int)
KURTOSIS = Fact[dict[str, float]]("weight-kurtosis", dict)


def test_a_value_is_given_back_under_its_fact() -> None:
    facts = Facts()
    facts.set(MACS, 12)
    facts.set(KURTOSIS, {"proj_out": 3.1})
    assert facts.get(MACS) == 12
    assert facts.get(KURTOSIS)["proj_out"] == 3.1
    assert [fact.name for fact in facts] == ["macs", "weight-kurtosis"]


def test_a_missing_fact_names_the_nearest_known_one() -> None:
    facts = Facts()
    facts.set(KURTOSIS, {})
    with pytest.raises(Q2Error, match="'weight-kurtosi'.*did you mean 'weight-kurtosis'"):
        facts.get(Fact("weight-kurtosi", dict))


def test_a_value_of_another_type_is_refused() -> None:
    with pytest.raises(Q2Error, match="'macs': expected int, found str"):
        Facts().set(Fact[object]("macs", int), "many")


def test_two_facts_of_one_name_clash() -> None:
    facts = Facts()
    facts.set(MACS, 12)
    with pytest.raises(Q2Error, match="stored as int, now set as float"):
        facts.set(Fact("macs", float), 1.0)


def test_drop_keeps_what_a_transform_preserves() -> None:
    facts = Facts()
    facts.set(MACS, 12)
    facts.set(KURTOSIS, {})
    facts.drop(preserve={MACS})
    assert MACS in facts
    assert KURTOSIS not in facts
    facts.drop()
    assert len(facts) == 0
