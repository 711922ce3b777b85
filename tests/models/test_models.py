"""The networks and data that ship with q2, and a user's own by ``package:factory``."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from q2.errors import CheckpointError, ConfigError, Q2Error
from q2.models import evaluate, load_model, train
from q2.models.data.files import FEATURES
from q2.models.data.jets import jets
from q2.models.data.splits import SPLITS, Data, load_data
from q2.settings import DataSettings, ModelSettings, TrainSettings


def layers(name: str) -> list[tuple[str, tuple[int, ...]]]:
    module = load_model(ModelSettings(name=name)).module
    blocks = module.seq_blocks
    assert isinstance(blocks, nn.Sequential)
    weights = [getattr(each, "weight", torch.empty(())) for each in blocks]
    return [(type(each).__name__, tuple(weight.shape)) for each, weight in zip(blocks, weights, strict=True)]


def test_the_jet_networks_have_exactly_the_documents_layers() -> None:
    norm, relu = "BatchNorm1d", ("ReLU", ())
    assert layers("jsc-tiny") == [(norm, (16,)), relu, ("Linear", (5, 16)), relu]
    assert layers("jsc-new") == [
        (norm, (16,)), relu, ("Linear", (8, 16)), (norm, (8,)), relu, ("Linear", (8, 8)), (norm, (8,)), relu,
        ("Linear", (5, 8)), (norm, (5,)), relu,
    ]  # fmt: skip
    assert layers("jsc-three-linear") == [
        (norm, (16,)), relu, ("Linear", (16, 16)), relu, ("Linear", (16, 16)), relu, ("Linear", (5, 16)), relu,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "accuracy"), [("jsc-tiny", 0.62), ("jsc-new", 0.63), ("jsc-three-linear", 0.63), ("digits-cnn", 0.97)]
)
def test_the_weights_that_ship_are_trained(name: str, accuracy: float) -> None:
    model = load_model(ModelSettings(name=name))
    score = evaluate(model.module, model.need_data("the test"), "test")
    assert score.accuracy > accuracy
    random = load_model(ModelSettings(name=name, weights="random"), model.data)
    assert evaluate(random.module, random.need_data("the test"), "test").accuracy < 0.45


def test_synthetic_jets_follow_from_their_seed() -> None:
    features, classes = jets(samples=500, seed=3)
    again, _ = jets(samples=500, seed=3)
    other, _ = jets(samples=500, seed=4)
    assert torch.equal(features, again)
    assert not torch.equal(features, other)
    assert classes.bincount().tolist() == [100] * 5
    assert torch.allclose(features.mean(0), torch.zeros(16), atol=1e-5)


def test_splits_are_cut_by_the_seed_and_share_no_sample() -> None:
    x = torch.arange(100.0)[:, None]
    data = Data.of((x, torch.zeros(100, dtype=torch.long)), DataSettings(batch=7, validation=0.2, test=0.1))
    found = {split: torch.cat([each for each, _ in data.batches(split)]).flatten().tolist() for split in SPLITS}
    assert {split: len(each) for split, each in found.items()} == {"train": 70, "validation": 20, "test": 10}
    assert sorted(number for each in found.values() for number in each) == list(range(100))
    shuffled = torch.cat([each for each, _ in data.batches("train", shuffle=1)]).flatten().tolist()
    assert sorted(shuffled) == sorted(found["train"]) != shuffled


class Own(nn.Module):
    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.head = nn.Linear(2, width)

    def forward(self, features: Tensor) -> Tensor:
        out: Tensor = self.head(features)
        return out


class Pairs(torch.utils.data.Dataset[tuple[Tensor, int]]):
    def __len__(self) -> int:
        return 30

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.tensor([index / 30, 1.0]), index % 3


def splits() -> dict[str, object]:
    pair = torch.randn(6, 2), torch.zeros(6, dtype=torch.long)
    return {"train": pair, "val": pair, "test": Pairs()}


PLACE = f"{__name__}:"


def test_a_module_and_data_of_the_users_own_with_arguments_and_weights(tmp_path: Path) -> None:
    weights = {"head.weight": torch.full((4, 2), 0.5), "head.bias": torch.zeros(4)}
    save_file(weights, tmp_path / "own.safetensors")
    torch.save(weights, tmp_path / "own.pt")
    for file in ("own.safetensors", "own.pt"):
        settings = ModelSettings(
            **{"import": f"{PLACE}Own"},
            arguments={"width": 4},
            weights=str(tmp_path / file),
        )
        model = load_model(settings, DataSettings(**{"import": f"{PLACE}Pairs"}, batch=4))
        assert model.label == "Own"
        assert model.example_inputs()["features"].shape == (4, 2)
        assert torch.equal(model.module.head.weight, weights["head.weight"])  # type: ignore[union-attr, arg-type]
    given = load_data(DataSettings(**{"import": f"{PLACE}splits"}))
    assert given is not None
    assert (given.count("validation"), given.count("test")) == (6, 30)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "jsc-tinny"}, "no model named 'jsc-tinny'; did you mean 'jsc-tiny'? (there are: jsc-tiny, "),
        ({"import": "nothing.here:At"}, "'nothing.here:At' cannot be imported: ModuleNotFoundError: No module"),
        ({"import": f"{PLACE}Owm"}, "cannot be imported: AttributeError: "),
        ({"import": f"{PLACE}Own", "arguments": {"widht": 4}}, "arguments.widht: "),
        ({"import": "Own"}, "'Own': expected 'package.module:factory'"),
        ({"import": f"{PLACE}splits"}, "returned dict, expected a torch.nn.Module"),
        ({"name": "jsc-tiny", "import": "a:b"}, "name 'jsc-tiny' and import 'a:b' both say a model; leave one out"),
        ({"name": "jsc-tiny", "weights": "gone.safetensors"}, "gone.safetensors: cannot be read: "),
    ],
)
def test_a_model_that_there_is_not_is_one_line(settings: dict[str, object], message: str) -> None:
    with pytest.raises(Q2Error) as error:
        load_model(ModelSettings(**settings))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_weights_that_do_not_fit_name_the_tensor(tmp_path: Path) -> None:
    save_file({"head.weight": torch.zeros(3, 2), "head.bais": torch.zeros(3)}, tmp_path / "own.safetensors")
    settings = ModelSettings(**{"import": f"{PLACE}Own"}, weights=str(tmp_path / "own.safetensors"))
    with pytest.raises(CheckpointError) as error:
        load_model(settings)
    assert str(error.value).endswith("own.safetensors: no tensor 'head.bias'; did you mean 'head.bais'?")


def test_training_improves_repeats_and_reports_every_epoch() -> None:
    scores = []
    for _ in range(2):
        model = load_model(ModelSettings(name="jsc-new", weights="random"), seed=3)
        told: list[int] = []
        score = train(
            model.module,
            model.need_data("the test"),
            TrainSettings(epochs=2, learning_rate=0.02),
            seed=1,
            after=lambda epoch, loss, score, told=told: told.append(epoch),  # type: ignore[misc]
        )
        assert told == [1, 2]
        scores.append(score)
    assert scores[0].accuracy > 0.5
    assert (scores[0].accuracy, scores[0].loss) == (scores[1].accuracy, scores[1].loss)


def hdf5(path: Path, names: list[str], labels: list[int]) -> None:
    columns = [*(f"j_{name}" for name in names), *(f"j_{each}" for each in "gqwzt")]
    table = np.zeros(len(labels), [(name, np.float32) for name in columns])
    for place, label in enumerate(labels):
        table[f"j_{'gqwzt'[label]}"][place] = 1
        table[f"j_{names[0]}"][place] = place
    with h5py.File(path, "w") as file:
        file["t_allpar_new"] = table


def test_real_jets_are_read_from_hdf5_and_from_openmls_arff(tmp_path: Path) -> None:
    hdf5(tmp_path / "jets.z", list(FEATURES), [0, 4, 2])
    features, classes = jets(path=str(tmp_path / "jets.z"))
    assert classes.tolist() == [0, 4, 2]
    assert torch.allclose(features[:, 0], torch.tensor([-1.2247, 0.0, 1.2247]), atol=1e-4)
    assert features.shape == (3, 16)
    head = "@RELATION jets\n" + "".join(f"@ATTRIBUTE {name} REAL\n" for name in FEATURES)
    rows = "".join(f"{place}{',0' * 15},{label}\n" for place, label in enumerate("gtw"))
    (tmp_path / "jets.arff").write_text(f"{head}@ATTRIBUTE class {{g,q,w,z,t}}\n@DATA\n{rows}")
    again, same = jets(path=str(tmp_path / "jets.arff"))
    assert torch.equal(features, again)
    assert same.tolist() == [0, 4, 2]


def test_a_file_that_is_missing_or_of_another_layout_is_one_line(tmp_path: Path) -> None:
    names = list(FEATURES)
    names[15] = "multiplicty"
    hdf5(tmp_path / "other.h5", names, [0, 1])
    (tmp_path / "text.arff").write_text("hello")
    for file, message in {
        "gone.h5": "gone.h5: cannot be read: No such file or directory",
        "other.h5": "other.h5: no column 'j_multiplicity'; did you mean 'j_multiplicty'?",
        "text.arff": "text.arff: neither HDF5 nor an ARFF file as OpenML has it",
    }.items():
        with pytest.raises(ConfigError) as error:
            jets(path=str(tmp_path / file))
        assert str(error.value).endswith(message)
