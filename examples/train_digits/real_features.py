"""Write the judge's features of real digits as mean and covariance: what `judge-fid` compares images with."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from common import ASSETS, digit_images
from safetensors.torch import save_file

from q2.denoisers.judge import REAL, DigitsJudge


def main() -> None:
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("--assets", type=Path, default=ASSETS)
    folder = args.parse_args().assets / "digits-judge"
    images, _ = digit_images()
    with torch.no_grad():
        features = DigitsJudge.load(folder).features(images).double()
    moments = {"mean": features.mean(0), "covariance": features.T.cov()}
    save_file(moments, folder / REAL)
    print(f"{len(images)} real digits: {folder / REAL}")


if __name__ == "__main__":
    main()
