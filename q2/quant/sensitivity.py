"""Measured sensitivity: how far the denoiser is from full precision with one choice alone at another option.

What estimates of a layer's importance are judged by, and what recipes are built from (MixDQ, ECCV'24). Noise is
the squared error relative to the signal, 10^(-SQNR/10): that of layers quantized alone adds up, as dB do not.
"""

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from q2.errors import SensitivityError, why
from q2.files import plain, read_json, write_text
from q2.quant.options import NONE

__all__ = ["AloneFidelity", "SensitivityTable", "added_noise", "noise_of", "one_at_a_time", "signal_of"]

AloneFidelity = Literal["forward", "few-step"]
_VERSION = 1
_RESOLUTION = 1e-3
"""The share of a measurement's noise below which a difference to the base's is not told from its own inaccuracy."""


def signal_of(fidelity: str) -> str:
    """Return the metric that compares a recipe with full precision at a fidelity, in dB.

    >>> signal_of("forward"), signal_of("few-step")
    ('SQNR', 'latent-SQNR')
    """
    return "SQNR" if fidelity == "forward" else "latent-SQNR"


def noise_of(sqnr_db: float) -> float:
    """Return the noise relative to the signal.

    >>> noise_of(20.0), noise_of(-4000.0)
    (0.01, inf)
    """
    with suppress(OverflowError):
        return float(10 ** (-sqnr_db / 10))
    return math.inf


def added_noise(noise: float, base: float) -> float:
    """Return what is added to the noise of the base: at least a thousandth of what was measured, which is above 0."""
    return max(noise - base, _RESOLUTION * noise)


def one_at_a_time(options: Mapping[str, Sequence[str]], base: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield every choice with each of its options but the one that it has in the base; ``none`` where it has none.

    >>> list(one_at_a_time({"q": ["uaq-4", "none"], "k": ["uaq-4"]}, {"k": "uaq-3"}))
    [('q', 'uaq-4'), ('k', 'uaq-4')]
    """
    for choice, texts in options.items():
        for option in texts:
            if option != base.get(choice, NONE):
                yield choice, option


@dataclass(frozen=True, eq=False)
class SensitivityTable:
    """SQNR in dB with each choice alone at an option, all others as in `base`; NaN where outputs were not finite.

    `base` has the options of the choices that are quantized there, none of them for full precision, and `base_db` is
    its own SQNR. `settings` say how it was measured: images, steps, seed, and the like.
    """

    denoiser: str
    fingerprint: str
    fidelity: AloneFidelity
    settings: Mapping[str, str | int] = field(default_factory=dict)
    base: Mapping[str, str] = field(default_factory=dict)
    base_db: float = 100.0
    sqnr_db: dict[str, dict[str, float]] = field(default_factory=dict)

    def noise(self, choice: str, option: str) -> float:
        """Return the drop from full precision: the noise to signal that is there with the option; NaN if not known.

        >>> table = SensitivityTable("toy", "", "forward", base={"q": "uaq-3"}, base_db=10.0)
        >>> table.sqnr_db["q"] = {"uaq-4": 20.0}
        >>> table.noise("q", "uaq-4"), table.noise("q", "uaq-3"), round(table.gain("q", "uaq-4"), 6)
        (0.01, 0.1, 0.09)
        """
        if option == self.base.get(choice, NONE):
            return noise_of(self.base_db)
        return noise_of(self.sqnr_db.get(choice, {}).get(option, math.nan))

    def added(self, choice: str, option: str) -> float:
        """Return the noise that the option adds to the base's, above 0; 0 for the base's own option."""
        if option == self.base.get(choice, NONE):
            return 0.0
        noise = self.noise(choice, option)
        return added_noise(noise, noise_of(self.base_db)) if math.isfinite(noise) else noise

    def gain(self, choice: str, option: str) -> float:
        """Return how much less noise there is with the option than in the base."""
        return noise_of(self.base_db) - self.noise(choice, option)

    def spread(self, choice: str, options: Iterable[str] = ()) -> float:
        """Return how much a choice matters: the most noise of its options less the least.

        `options` are those that count, all that were measured and the base's own if there are none; NaN where fewer
        than two are known.
        """
        among = tuple(options) or (*self.sqnr_db[choice], self.base.get(choice, NONE))
        known = [noise for option in among if math.isfinite(noise := self.noise(choice, option))]
        return max(known) - min(known) if len(known) > 1 else math.nan

    def ranked(self) -> list[tuple[str, float]]:
        """Return the choices with their `spread`, the most sensitive first; what is not known comes last."""
        found = [(choice, self.spread(choice)) for choice in self.sqnr_db]
        return sorted(found, key=lambda pair: -pair[1] if math.isfinite(pair[1]) else math.inf)

    def differences(self, other: "SensitivityTable") -> list[str]:
        """Return a phrase for everything about how the two were measured in which `self` is not as `other`."""
        mine, theirs = self._head(), other._head()
        return [
            f"{key} is {mine.get(key)}, not {theirs.get(key)}"
            for key in {**mine, **theirs}
            if mine.get(key) != theirs.get(key)
        ]

    def _head(self) -> dict[str, object]:
        own = {"denoiser": self.denoiser, "fingerprint": self.fingerprint, "fidelity": self.fidelity}
        quantized = {layer: option for layer, option in self.base.items() if option != NONE}
        return {**own, **self.settings, "base": quantized or "full precision"}

    def table(self) -> dict[str, object]:
        """Return it as the file has it."""
        head = {"denoiser": self.denoiser, "fingerprint": self.fingerprint, "fidelity": self.fidelity}
        base = {"sqnr_db": self.base_db, "layers": dict(self.base)}
        measured = {"settings": dict(self.settings), "base": base, "sqnr_db": self.sqnr_db}
        return {"q2": "sensitivity", "version": _VERSION, **head, **measured}

    def to_json(self) -> str:
        """Return the text of the file; what is not finite is null."""
        return json.dumps(plain(self.table()), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def save(self, path: Path) -> None:
        """Write it as JSON, as a whole. Raises `SensitivityError` on a full disk."""
        try:
            write_text(path, self.to_json())
        except OSError as error:
            raise SensitivityError(f"{path}: cannot be written: {why(error)}") from error

    @classmethod
    def load(cls, path: Path) -> "SensitivityTable":
        """Read what `save` wrote. Raises `SensitivityError`, one line, for a file that is damaged or another."""
        try:
            table = read_json(path)
            if not isinstance(table, dict) or (table.get("q2"), table.get("version")) != ("sensitivity", _VERSION):
                raise ValueError(f"expected q2 = 'sensitivity' of version {_VERSION}")
            rows = {choice: {o: _number(db) for o, db in row.items()} for choice, row in table["sqnr_db"].items()}
            base = table["base"]
            head = (str(table["denoiser"]), str(table["fingerprint"]), table["fidelity"])
            if head[2] not in ("forward", "few-step"):
                raise ValueError(f"fidelity: expected forward or few-step, not {head[2]!r}")
            return cls(*head, dict(table["settings"]), dict(base["layers"]), _number(base["sqnr_db"]), rows)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise SensitivityError(f"{path}: no measured sensitivities: {why(error)}") from error

    def to_csv(self) -> str:
        """Return a row for every measurement: layer, option, SQNR, noise, and what the option gains over the base."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("layer", "option", "sqnr_db", "noise_to_signal", "gain"))
        for choice, row in self.sqnr_db.items():
            for option, db in row.items():
                writer.writerow((choice, option, db, self.noise(choice, option), self.gain(choice, option)))
        return text.getvalue()


def _number(value: object) -> float:
    """Return a number of the file, where null stands for what was not finite. Raises `TypeError` for anything else."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"expected a number of dB, not {value!r}")
    return float(value)
