"""Encoded recipes are the dictionaries that they were made of."""

import copy
import pickle
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from q2.search.trials.encoding import EncodedRecipe, Tables, key, plain

RECIPES = st.lists(st.dictionaries(st.text(max_size=3), st.sampled_from(["uaq-2", "uaq-3", "none", "é"])), max_size=6)


def check(encoded: EncodedRecipe, recipe: Mapping[str, str]) -> None:
    assert encoded == recipe
    assert recipe == encoded
    assert dict(encoded) == plain(encoded) == dict(encoded.items()) == recipe
    assert list(encoded) == list(encoded.keys()) == sorted(recipe)
    assert list(encoded.values()) == [recipe[name] for name in sorted(recipe)]
    assert len(encoded) == len(recipe)
    assert all(name in encoded and encoded[name] == option for name, option in recipe.items())


@given(RECIPES, RECIPES)
def test_recipes_come_back_through_the_tables_of_two_stores(
    first: list[dict[str, str]], more: list[dict[str, str]]
) -> None:
    ours, theirs = Tables(), Tables()
    for recipe in more:
        theirs.encode(recipe)
    for recipe in first:
        encoded = ours.encode(recipe)
        check(encoded, recipe)
        assert ours.encode(encoded) is encoded
        check(theirs.encode(encoded), recipe)
        digest, options = ours.options()
        theirs.take_layers(encoded.layers.body)
        theirs.take_options(options)
        check(theirs.decode(encoded.layers.digest, digest, encoded.codes), recipe)
    encoded_all = [ours.encode(recipe) for recipe in first]
    for one, a in zip(encoded_all, first, strict=True):
        for other, b in zip(encoded_all, first, strict=True):
            assert (one == other, key(one) == key(other)) == (a == b, a == b)


def test_it_travels_as_a_dictionary_and_cannot_be_changed() -> None:
    encoded = Tables().encode({"b": "uaq-4", "a": "none"})
    for copied in (pickle.loads(pickle.dumps(encoded)), copy.deepcopy(encoded), copy.copy(encoded)):
        assert type(copied) is dict
        assert copied == encoded
    assert repr(encoded) == "{'a': 'none', 'b': 'uaq-4'}"
    assert encoded != {"b": "uaq-4"}
    assert encoded.get("c") is None
    with pytest.raises(KeyError):
        encoded["c"]
    with pytest.raises(TypeError):
        encoded["a"] = "uaq-2"  # type: ignore[index]


def test_codes_that_do_not_fit_the_tables_are_refused() -> None:
    tables = Tables()
    encoded = tables.encode({"a": "uaq-4", "b": "none"})
    digest, options = tables.options()
    tables.take_options(options)
    for codes in ("0", "000", "09"):
        with pytest.raises((KeyError, ValueError)):
            tables.decode(encoded.layers.digest, digest, codes)
    assert not tables.has(encoded.layers.digest, "0" * 16)
