"""The TensorBoard plugin: what it writes is read back."""

import sys
from pathlib import Path

import pytest

from q2.errors import PluginError
from q2.plugins import Plugins
from q2.search.trials.trial import Trial

MODULE = "q2.plugins.tensorboard"


def test_every_metric_is_a_scalar_by_number_and_the_best_recipe_a_text(tmp_path: Path) -> None:
    from tensorboardX.proto.event_pb2 import Event

    from q2.plugins import tensorboard

    plugins = Plugins([MODULE], entry_points=False)
    plugins.after_trial(Trial({"a": "uaq-4"}, {"SQNR": 12.0}, fidelity="forward", number=0), -4.5, tmp_path)
    plugins.after_trial(Trial({"a": "uaq-3"}, {"SQNR": 6.0}, fidelity="forward", number=1), -5.5, tmp_path)
    plugins.after_trial(Trial({"a": "uaq-2"}, number=2, state="failed", error="none left"), None, tmp_path)
    tensorboard._log(tmp_path).writer.close()
    (file,) = (tmp_path / "tensorboard").iterdir()
    data, place, values = file.read_bytes(), 0, []
    while place < len(data):  # length, its checksum, the event, its checksum
        length = int.from_bytes(data[place : place + 8], "little")
        event = Event.FromString(data[place + 12 : place + 12 + length])
        values += [(event.step, value) for value in event.summary.value]
        place += length + 16
    scalars = [(step, value.tag, value.simple_value) for step, value in values if value.HasField("simple_value")]
    assert scalars == [
        (0, "forward/SQNR", 12.0),
        (0, "forward/target", -4.5),
        (1, "forward/SQNR", 6.0),
        (1, "forward/target", -5.5),
    ]
    texts = [(step, value.tensor.string_val[0].decode()) for step, value in values if value.HasField("tensor")]
    assert [step for step, _ in texts] == [0]
    assert "| a | uaq-4 |" in texts[0][1]


def test_it_is_off_unless_a_run_asks() -> None:
    assert [info.name for info in Plugins(entry_points=False).infos] == ["q2"]


def test_without_tensorboardx_the_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    with pytest.raises(PluginError, match="need tensorboardX: pip install tensorboardX$"):
        Plugins([MODULE], entry_points=False)
