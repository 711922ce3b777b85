"""How far `q2 plan`'s lower bound of time is from what the embedded denoisers take on this machine.

    python -m benchmarks.plan [--names digits-dit digits-sdxl scenes-sd3] [--images 1 8 32] [--times 5]

For every denoiser, quantized as its run file says, and number of images drawn at a time, prints a row of a Markdown
table: the plan's seconds, and the least of `--times` drawings, the speed of this machine found anew before each. The
median of the ratios counts; a drawing has the scheduler, the text encoders and the autoencoder too.
"""

import argparse
import time
from statistics import median

from q2.config import RunFile
from q2.session.forecast import forecast
from q2.session.session import Session

NAMES = ("digits-dit", "digits-sdxl", "scenes-sd3")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--names", nargs="+", default=list(NAMES), choices=NAMES)
    parser.add_argument("--images", nargs="+", type=int, default=[1, 8, 32])
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    print("| denoiser | images at a time | planned, s | measured, s | ratio |")
    print("| --- | --- | --- | --- | --- |")
    for name in options.names:
        session = Session(RunFile.load(f"{name}.toml", []))
        session.denoiser.generate(1, batch=1)  # the first drawing sets up
        for images in options.images:
            rows = [compared(session, images) for _ in range(options.times)]
            ratio = median(drawn / planned for planned, drawn in rows)
            planned, drawn = (min(column) for column in zip(*rows, strict=True))
            print(f"| {name} | {images} | {planned:.3g} | {drawn:.3g} | {ratio:.2f} |", flush=True)


def compared(session: Session, images: int) -> tuple[float, float]:
    """Return the plan's seconds of drawing images together, and those that it took."""
    planned = forecast(session, images=images).seconds
    start = time.perf_counter()
    session.denoiser.generate(images, batch=images)
    return planned, time.perf_counter() - start


if __name__ == "__main__":
    main()
