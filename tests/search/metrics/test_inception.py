"""FID and KID are clean-fid's own numbers; what is missing is said in a line. A small network stands for Inception."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import q2
from q2.denoisers import Samples
from q2.errors import ConfigError
from q2.search.metrics.base import Chunk, ImageMetric
from q2.search.metrics.cleanfid import clean_fid
from q2.search.metrics.folder import pictures, samples_of
from q2.search.metrics.frechet import moments
from q2.search.metrics.inception import FidFp, FidGt, Kid
from q2.settings import EvaluationSettings
from tests.search.metrics.small import NetworkSuite, save_images, save_inception


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the network, and two of images."""
    folder = tmp_path_factory.mktemp("fid")
    save_inception(folder)
    rng = np.random.default_rng(0)
    for name, shift in (("real", 0), ("made", 30)):
        (folder / name).mkdir()
        for index in range(12):
            noise = rng.integers(0, 200, (20, 20, 3)) + shift
            Image.fromarray(noise.astype(np.uint8)).save(folder / name / f"{index}.png")
    return folder


def settings(files: Path, **changes: object) -> EvaluationSettings:
    table = {"inception": str(files), "reference": str(files / "real"), **changes}
    return EvaluationSettings.model_validate(table)


def rows_of(metric: ImageMetric, folder: Path) -> np.ndarray:
    chunks = [Chunk(image, image) for image in map(samples_of, pictures(str(folder)))]
    return np.concatenate([metric.rows(chunk) for chunk in chunks])


def theirs(files: Path, name: str) -> np.ndarray:
    network = torch.jit.load(str(files / "inception-2015-12-05.pt"))
    with clean_fid() as fid:
        found = fid.get_folder_features(
            str(files / name),
            model=lambda x: network.layers((x - 128) / 128).flatten(1),
            num_workers=0,
            device=torch.device("cpu"),
            verbose=False,
        )
    return np.asarray(found)


def test_fid_is_that_of_clean_fid_on_the_same_folders(files: Path) -> None:
    metric = FidGt(q2.denoiser("digits-dit"), settings(files))
    made, real = rows_of(metric, files / "made"), rows_of(metric, files / "real")
    np.testing.assert_allclose(made, theirs(files, "made"), rtol=1e-4, atol=1e-5)
    with clean_fid() as fid:
        expected = fid.frechet_distance(*moments(theirs(files, "made")), *moments(theirs(files, "real")))
    found = metric.value(made, real)
    assert found.value == pytest.approx(float(expected), rel=1e-3)
    assert found.low < found.value < found.high


def test_a_file_of_statistics_serves_as_the_folder_does(files: Path, tmp_path: Path) -> None:
    folder = FidGt(q2.denoiser("digits-dit"), settings(files))
    mean, covariance = moments(rows_of(folder, files / "real"))
    np.savez(tmp_path / "real.npz", mu=mean, sigma=covariance)
    metric = FidGt(q2.denoiser("digits-dit"), settings(files, reference=str(tmp_path / "real.npz")))
    made = rows_of(metric, files / "made")
    assert (folder.against, metric.against) == ("real", "")
    expected = folder.value(made, rows_of(folder, files / "real"))
    assert metric.value(made, None).value == pytest.approx(expected.value, rel=1e-9)


def test_the_distance_to_full_precision_and_kid_take_the_same_features_once(files: Path) -> None:
    denoiser = q2.denoiser("digits-dit")
    fid, kid = FidFp(denoiser, settings(files)), Kid(denoiser, settings(files))
    image = samples_of(pictures(str(files / "made"))[0])
    chunk = Chunk(image, image)
    assert fid.rows(chunk) is kid.rows(chunk)
    rows = rows_of(fid, files / "made")
    assert fid.value(rows, rows).value == pytest.approx(0, abs=1e-3)
    assert kid.value(rows, rows_of(kid, files / "real")).value > 0


def test_grey_images_are_read_as_three_equal_colours(files: Path) -> None:
    metric = FidFp(q2.denoiser("digits-dit"), settings(files))
    grey = Samples(torch.rand(2, 1, 32, 32), torch.zeros(2, dtype=torch.long))
    colour = Samples(grey.images.expand(-1, 3, -1, -1), grey.labels)
    np.testing.assert_array_equal(metric.rows(Chunk(grey, grey)), metric.rows(Chunk(colour, colour)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"inception": "/nowhere/inception.pt"}, "put https://.*inception-2015-12-05.pt at /nowhere/inception.pt"),
        ({"reference": ""}, "FID-GT-1k: needs search.evaluation.reference, a folder of real images"),
        ({"reference": "/nowhere"}, "'/nowhere' is no folder of images"),
        ({"reference": "/nowhere.npz"}, "expected an npz file with mu and sigma"),
    ],
)
def test_what_is_missing_is_one_line(files: Path, changes: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        FidGt(q2.denoiser("digits-dit"), settings(files, **changes))


def test_a_folder_without_images_and_a_broken_image_are_one_line(tmp_path: Path, files: Path) -> None:
    with pytest.raises(ConfigError, match="0 images, expected two or more"):
        Kid(q2.denoiser("digits-dit"), settings(files, reference=str(tmp_path)))
    (tmp_path / "bad.png").write_text("no image")
    with pytest.raises(ConfigError, match=r"bad\.png: no image"):
        samples_of(tmp_path / "bad.png")


@pytest.fixture(scope="module")
def networks(files: Path) -> Path:
    """The folder of the network, with images."""
    save_images(files / "images")
    return files


class TestFidGt(NetworkSuite):
    metric = FidGt


class TestFidFp(NetworkSuite):
    metric = FidFp


class TestKid(NetworkSuite):
    metric = Kid
