"""The search space: sizes, ties, split layers, and random recipes as the paper draws them."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from q2.errors import ConfigError, OptionError, RecipeError
from q2.graph import trace
from q2.search.space import Space

SIX = ["uaq-4", "kmeans-c-4", "kmeans-a-4", "uaq-3", "kmeans-c-3", "kmeans-a-3"]
LAYERS = {f"blocks.{index}.to_q": 100 + index for index in range(200)}


def test_the_size_is_told_in_a_line() -> None:
    assert str(Space.of(dict.fromkeys(list(LAYERS)[:61], 1), SIX)) == "6^61 recipes, 2.9e47"
    assert str(Space.of({f"l{index}": 1 for index in range(6000)}, SIX)).endswith("e4668")
    assert str(Space.of({"a": 1, "b": 1}, SIX)) == "6^2 recipes, 36"
    assert str(Space.of({}, SIX)) == "1 recipes, 1"
    mixed = Space(Space.of({"a": 1, "b": 1}, SIX).choices + Space.of({"c": 1}, SIX[:2]).choices)
    assert str(mixed) == "6^2 · 2^1 recipes, 72"
    assert mixed.size == 72


def test_tied_layers_are_one_choice_in_the_place_of_the_first() -> None:
    space = Space.of({"a": 3, "b": 5, "c": 3, "d": 3}, ["uaq-4", "uaq-3"], [("a", "c"), ("a", "d")])
    assert [choice.layers for choice in space.choices] == [("a", "c", "d"), ("b",)]
    assert [choice.weights for choice in space.choices] == [3, 5]
    assert space.decode([1, 0]) == {"a": "uaq-3", "c": "uaq-3", "d": "uaq-3", "b": "uaq-4"}
    for number in range(20):
        recipe = space.draw(0, number)
        assert recipe["a"] == recipe["c"] == recipe["d"]


@given(st.integers(0, 2**63 - 1), st.integers(0, 10**6), st.floats(0, 1), st.floats(0, 1))
@settings(deadline=None, max_examples=50, derandomize=True)
def test_a_recipe_and_its_vector_say_the_same(seed: int, number: int, one: float, other: float) -> None:
    space = Space.of(dict.fromkeys(list(LAYERS)[:7], 1), [*SIX, "none"], [list(LAYERS)[2:4]])
    recipe = space.draw(seed, number, min(one, other), max(one, other))
    vector = space.encode(recipe)
    assert vector.shape == (6,)
    assert space.decode(vector) == recipe
    assert space.encode(space.decode(vector)).tolist() == vector.tolist()


def test_two_widths_are_drawn_with_the_share_of_the_narrower_and_quantizers_uniformly() -> None:
    space = Space.of(LAYERS, SIX)
    for share in (0.0, 0.3, 1.0):
        drawn = np.concatenate([space.random(np.random.default_rng(seed), share, share) for seed in range(60)])
        counts = np.bincount(drawn, minlength=6) / drawn.size
        expected = np.array([(1 - share) / 3] * 3 + [share / 3] * 3)
        bound = 4 * np.sqrt(expected * (1 - expected) / drawn.size)
        assert (np.abs(counts - expected) <= bound + 1e-12).all()


def test_the_share_is_drawn_once_a_recipe_and_uniformly() -> None:
    space = Space.of(LAYERS, SIX)
    shares = np.array([(space.random(np.random.default_rng(seed), 0.2, 0.8) >= 3).mean() for seed in range(400)])
    assert abs(shares.mean() - 0.5) < 4 * 0.6 / math.sqrt(12 * 400)
    within = shares.std() ** 2
    assert 0.6**2 / 12 * 0.8 < within < (0.6**2 / 12 + 0.25 / 200) * 1.2


def test_three_widths_are_binomial_and_none_is_the_widest() -> None:
    space = Space.of(LAYERS, ["none", "uaq-3", "uaq-4", "kmeans-c-3"])
    share = 0.25
    drawn = np.concatenate([space.random(np.random.default_rng(seed), share, share) for seed in range(60)])
    counts = np.bincount(drawn, minlength=4) / drawn.size
    expected = np.array([0.75**2, 0.25**2 / 2, 2 * 0.25 * 0.75, 0.25**2 / 2])
    np.testing.assert_allclose(counts, expected, atol=0.02)


def test_one_option_is_always_drawn() -> None:
    assert set(Space.of(LAYERS, ["uaq-4"]).draw(0, 0).values()) == {"uaq-4"}


def test_recipe_i_depends_on_seed_and_i_alone_and_stays_what_it_is() -> None:
    space = Space.of({"a": 1, "b": 1, "c": 1, "d": 1}, SIX)
    late = space.draw(42, 3)
    assert [space.draw(42, number) for number in range(5)][3] == late
    assert late == {"a": "kmeans-a-4", "b": "kmeans-a-4", "c": "kmeans-c-4", "d": "kmeans-c-4"}
    drawn = {tuple(space.draw(seed, number).values()) for seed in range(2) for number in range(30)}
    assert len(drawn) > 50


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"a": "uaq-4", "c": "uaq-4"}, 'layers."b": missing, every layer of the search space needs an option'),
        (
            {"a": "uaq-4", "b": "uaq-4", "c": "uaq-4", "cc": "uaq-3"},
            "layers.\"cc\": no such layer in the search space; did you mean 'c'?",
        ),
        (
            {"a": "uaq-4", "b": "uaq-3", "c": "uaq-3"},
            "layers.\"c\": 'uaq-3', but 'a', which holds the same weights, has 'uaq-4'",
        ),
        (
            {"a": "uaq-4", "b": "uaq-5", "c": "uaq-4"},
            "layers.\"b\": 'uaq-5' is no option of the search space; did you mean 'uaq-4'?",
        ),
        ({"a": "uaq-4", "b": "zebra", "c": "uaq-4"}, "layers.\"b\": 'zebra' is no option of the search space"),
    ],
)
def test_a_recipe_that_does_not_fit_is_one_line(recipe: dict[str, str], message: str) -> None:
    space = Space.of({"a": 1, "b": 1, "c": 1}, SIX, [("a", "c")])
    with pytest.raises(RecipeError) as error:
        space.encode(recipe)
    assert str(error.value) == message


def test_of_tied_layers_one_speaks_for_all() -> None:
    space = Space.of({"a": 1, "b": 1, "c": 1}, SIX, [("a", "c")])
    assert space.decode(space.encode({"c": "uaq-3", "b": "uaq-4"})) == {"a": "uaq-3", "c": "uaq-3", "b": "uaq-4"}


def test_na_is_none() -> None:
    space = Space.of({"a": 1}, ["NA", "uaq-4"])
    assert space.decode([0]) == {"a": "none"}
    assert space.encode({"a": "na"}).tolist() == [0]


def test_what_is_wrong_with_a_space_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"options: expected one or more, all different, not \[\]"):
        Space.of(LAYERS, [])
    with pytest.raises(ConfigError, match="options: expected one or more, all different, not "):
        Space.of(LAYERS, ["none", "NA"])
    with pytest.raises(OptionError, match="'uaq' is no option"):
        Space.of(LAYERS, ["uaq"])
    with pytest.raises(ConfigError, match="ties: no weight layer 'bb'; did you mean 'b'"):
        Space.of({"a": 1, "b": 1}, SIX, [("a", "bb")])
    for low, high in ((-0.1, 1.0), (0.0, 1.1), (0.6, 0.4), (math.nan, 1.0)):
        with pytest.raises(ConfigError, match="share of the narrower width: expected 0 ≤ low ≤ high ≤ 1, not "):
            Space.of(LAYERS, SIX).draw(0, 0, low, high)


class Skip(nn.Module):
    """Two convolutions whose outputs are joined for a third; copies of that and of an embedder."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 6, 1)
        self.joined = nn.Conv2d(10, 2, 3, padding=1)
        self.embed, self.again = nn.Linear(5, 4), nn.Linear(5, 4)
        self.again.load_state_dict(self.embed.state_dict())
        self.plain = nn.Conv2d(10, 2, 3, padding=1)
        self.plain.load_state_dict(self.joined.state_dict())

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        skip = self.first(x) + self.embed(embedding)[:, :, None, None]
        hidden = self.second(skip + self.again(embedding)[:, :, None, None])
        joined: Tensor = self.joined(torch.cat([hidden, skip], dim=1))
        plain: Tensor = self.plain(x.mean(dim=1, keepdim=True).expand(-1, 10, -1, -1))
        return joined + plain


def test_a_denoiser_has_a_choice_for_every_layer_two_for_a_split_one_and_one_for_copies() -> None:
    graph = trace(Skip(), {"x": torch.zeros(1, 3, 8, 8), "embedding": torch.zeros(1, 5)})
    space = Space.of_graph(graph, SIX)
    assert {choice.layers: choice.weights for choice in space.choices} == {
        ("first",): 12,
        ("embed", "again"): 20,
        ("second",): 24,
        ("joined",): 6 * 2 * 9,
        ("joined#1",): 4 * 2 * 9,
        ("plain",): 10 * 2 * 9,
    }
    assert len(Space.of_graph(graph, SIX, ties=False)) == 7
    assert space.decode(space.random(np.random.default_rng(0))).keys() == set(graph.weight_layers) | {"joined#1"}
