"""Small networks in the place of Inception and CLIP, saved as the metrics read them, and the suite of such metrics."""

from pathlib import Path

import pytest
import torch
from PIL import Image

import q2
from q2.settings import EvaluationSettings
from q2.testing import MetricSuite

FEATURES = 8
TOKENIZER = Path(q2.__file__).parent / "denoisers" / "assets" / "digits-sdxl" / "tokenizer"


class SmallInception(torch.nn.Module):
    """Has the part of Inception that clean-fid calls: layers that make features of scaled images."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        convolution = torch.nn.Conv2d(3, FEATURES, 9, stride=9)
        self.layers = torch.nn.Sequential(convolution, torch.nn.Tanh(), torch.nn.AdaptiveAvgPool2d(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images)  # type: ignore[no-any-return]


def save_inception(folder: Path) -> None:
    """Save the network under the name of Inception's file."""
    torch.jit.script(SmallInception()).save(str(folder / "inception-2015-12-05.pt"))


def save_clip(folder: Path) -> None:
    """Save a small random CLIP as a folder, as `from_pretrained` reads it."""
    from transformers import AutoTokenizer, CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    text = {**small, "vocab_size": len(tokenizer), "max_position_embeddings": tokenizer.model_max_length}
    torch.manual_seed(0)
    vision = {**small, "image_size": 32, "patch_size": 8}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)).save_pretrained(folder)
    side = {"height": 32, "width": 32}
    CLIPProcessor(CLIPImageProcessor(size=side, crop_size=side), tokenizer).save_pretrained(folder)


def save_images(folder: Path) -> None:
    """Save images like those of the suite, as real ones."""
    folder.mkdir()
    for index, image in enumerate(MetricSuite().images(48, 0.0, 200).full.images):
        pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / f"{index}.png")


class NetworkSuite(MetricSuite):
    """The suite of a metric whose network is a file; `networks` is a fixture of the module, a folder with all files."""

    @pytest.fixture(autouse=True)
    def use_networks(self, networks: Path) -> None:
        self.folder = networks

    def settings(self) -> EvaluationSettings:
        table = {"inception": self.folder, "clip": self.folder, "reference": self.folder / "images"}
        return EvaluationSettings.model_validate({key: str(path) for key, path in table.items()})
