"""What passes and strategies have in common: frozen dataclasses whose fields are keys of a TOML table."""

import tomllib
from dataclasses import fields

import pytest

from q2.config import dotted, to_toml
from q2.errors import ConfigError
from q2.passes import Pass
from q2.search.strategies.base import Strategy

__all__ = ["OptionsSuite"]


class OptionsSuite:
    """Tests of options: they come back from TOML, and what is wrong in a table is one line that names the key."""

    def thing(self) -> Pass | Strategy:
        """Return the pass or the strategy whose options are tested."""
        raise NotImplementedError

    def test_its_options_come_back_from_the_toml_that_they_are_written_to(self) -> None:
        """Its options come back from TOML text; it has a name and says what it is."""
        thing = self.thing()
        assert type(thing).name
        assert type(thing).__doc__
        text = to_toml(thing.to_table())
        assert type(thing).from_table(tomllib.loads(text), dotted) == thing, text

    def test_an_unknown_option_is_refused_in_one_line(self) -> None:
        """A misspelt key of its table is an error that names the key."""
        with pytest.raises(ConfigError) as error:
            type(self.thing()).from_table({"no-such-option": [1]}, lambda key: f"here: {dotted(key)}")
        assert "here: no-such-option" in str(error.value)
        assert "\n" not in str(error.value)

    def test_an_option_of_the_wrong_type_is_refused_in_one_line(self) -> None:
        """A value that no option takes is an error that names the key."""
        for entry in fields(self.thing()):
            with pytest.raises(ConfigError) as error:
                type(self.thing()).from_table({entry.name: [{"no-such-key": 1}]}, lambda key: f"here: {dotted(key)}")
            assert f"here: {entry.name}" in str(error.value)
            assert "\n" not in str(error.value)
