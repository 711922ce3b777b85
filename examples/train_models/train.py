"""Train the small networks that ship with q2, each from a seed, and write their weights: ``q2/models/assets``.

``python examples/train_models/train.py`` takes a minute; it needs scikit-learn for the digits.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file

from q2.models.evaluation import evaluate
from q2.models.imported import MODELS
from q2.models.model import load_model
from q2.models.training import train
from q2.settings import DataSettings, ModelSettings, TrainSettings

ASSETS = Path(__file__).resolve().parents[2] / "q2" / "models" / "assets"
EPOCHS = {"digits-cnn": 20}
SEEDS = range(4)


def main() -> None:
    """Train every network from a few seeds, since a ReLU behind the last layer may die, and keep the best."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ASSETS, help="folder that receives the weights")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for name in MODELS:
        found = []
        for seed in SEEDS:
            model = load_model(ModelSettings(name=name, weights="random", device="cpu"), DataSettings(), seed)
            data = model.need_data("training")
            score = train(model.module, data, TrainSettings(epochs=EPOCHS.get(name, 15)), seed=seed)
            found.append((score.loss, seed, model))
        _, seed, model = min(found, key=lambda each: each[0])
        test = evaluate(model.module, model.need_data("a test"), "test")
        state = {key: tensor.contiguous() for key, tensor in model.module.state_dict().items()}
        save_file(state, out / f"{name}.safetensors")
        print(f"{name:<18} seed {seed}  test accuracy {test.accuracy:.4f}  loss {test.loss:.4f}")


if __name__ == "__main__":
    main()
