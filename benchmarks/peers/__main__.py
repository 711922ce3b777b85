"""What people would pick in place of q2, on the same denoisers: bits that are kept against what images lose.

    python -m benchmarks.peers digits-dit --folder DIR [--peers SDNQ HQQ ...] [--bits 2 3 4] [--picture peers.svg]

Every method's weights are put into the denoiser, whose arithmetic stays float32. Of a method's details (groups, scales,
ranks) at a width the best is taken, by 6.02 dB a bit on a few images of another seed. A method that is not installed
is said and passed over. DIR/NAME.jsonl has a line for each setting; a run that is stopped goes on there.
"""

import argparse
from collections.abc import Callable, Iterable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch

from q2.errors import Q2Error

from . import gguf_types, others, own, sdnq
from .bits import Setting
from .measure import Bench, Results, Row, grouped
from .show import picture, table

PEERS: dict[str, tuple[str, str, Callable[[], Iterable[Setting]]]] = {
    "SDNQ": ("sdnq", "sdnq", sdnq.settings),
    "HQQ": ("hqq", "hqq", others.hqq_settings),
    "quanto": ("optimum.quanto", "optimum-quanto", others.quanto_settings),
    "torchao": ("torchao", "torchao", others.torchao_settings),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", choices=("digits-dit", "digits-sdxl"))
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--peers", nargs="+", choices=(*PEERS, "GGUF", "q2"), default=[*PEERS, "GGUF", "q2"])
    parser.add_argument("--bits", nargs="+", type=int, default=[2, 3, 4, 5, 6, 8])
    parser.add_argument("--bank", type=Path, help="a bank of calibrated options, from q2 bank")
    parser.add_argument("--ggml", default="", help="llama.cpp's libggml-base, for GGUF's K types")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--few", type=int, default=10, help="images that choose between the details of a method")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--picture", type=Path, help="SQNR against bits, SVG or PNG")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = list(available(options.peers, options.bank, options.ggml, options.name))
    bench = Bench(options.name, Results(options.folder / f"{options.name}.jsonl"), options.images, options.few)
    rows = list[Row]()
    for bits in options.bits:
        for title, settings in found:
            chosen = [setting for setting in settings if setting.bits == bits]
            rows += [bench.best(group, title) for group in grouped(chosen)]
    table(rows)
    if options.picture:
        picture(rows, options.picture)


def available(peers: Iterable[str], bank: Path | None, ggml: str, denoiser: str) -> Iterable[tuple[str, list[Setting]]]:
    """Yield the version and the settings of what is installed; say in a line how to install what is not."""
    for name in peers:
        if name == "q2":
            yield f"q2 {version('q2-diffusion')}", list(own.settings())
        elif name == "GGUF":
            yield from _gguf(ggml)
        else:
            module, package, listed = PEERS[name]
            if _installed(module):
                yield f"{package} {version(package)}", list(listed())
            else:
                print(f"{name} is passed over: pip install {package}")
    if bank is None:
        print("calibrated is passed over: give a bank's folder with --bank")
        return
    try:
        about, settings = own.bank_settings(bank, denoiser)
        yield f"q2 {version('q2-diffusion')}, {about}", settings
    except (Q2Error, ValueError) as error:
        print(f"calibrated is passed over: {error}")


def _gguf(ggml: str) -> Iterable[tuple[str, list[Setting]]]:
    if not _installed("gguf"):
        print("GGUF is passed over: pip install gguf")
        return
    library = gguf_types.libggml(ggml)
    if library is None:
        print("GGUF's K and IQ types are passed over: pip install llama-cpp-python, or --ggml LIBRARY")
    yield f"gguf {version('gguf')}", list(gguf_types.settings(library))


def _installed(module: str) -> bool:
    parent = module.partition(".")[0]
    return find_spec(parent) is not None and find_spec(module) is not None


if __name__ == "__main__":
    main()
