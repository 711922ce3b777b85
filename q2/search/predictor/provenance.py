"""How scores came about: what a file of labels, and the space beside it, say of the trials and networks behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from q2.errors import PredictorError
from q2.search.subject import Subject

__all__ = ["BY_LABEL", "BY_SEARCH", "Provenance"]

BY_LABEL, BY_SEARCH = "q2 predictor label", "q2 search"


@dataclass(frozen=True)
class Provenance:
    """Who made scores (`by`), and from what. What is empty is not known.

    `trials` is the store that was learned from, `count` how many of its trials, at which `fidelity`; `target` what they
    were ranked by. `scores` are those of the ``networks``, their ``effects``, or a ``ridge`` regression; `predictor` is
    the networks' folder, `loss` and `folds` are theirs. `level` is ``unit`` where a unit's variants are scored as
    wholes, ``node`` where their scores are sums over layers.

    `known` are factors of sums over layers that are terms of the target, and that the scores leave out, since they are
    known exactly; a fold's scores of units, and of layers alone, are in the target's unit times these scales.
    """

    subject: Subject = field(default_factory=Subject)
    by: str = ""
    trials: str = ""
    count: int = 0
    fidelity: str = ""
    target: str = ""
    scores: Literal["", "networks", "effects", "ridge"] = ""
    predictor: str = ""
    loss: str = ""
    folds: int = 0
    level: Literal["", "unit", "node"] = ""
    known: Mapping[str, float] = field(default_factory=dict)
    scale_unit: float = 1.0
    scale_node: float = 1.0

    def __str__(self) -> str:
        if not self.by:
            return "how these scores were made is not known"
        loss = f" (loss {self.loss})" if self.loss else ""
        what = f"scores of {self.scores}{loss}" if self.scores else "scores"
        words = [f"{what} by {self.by}, {self.folds} folds" if self.folds else f"{what} by {self.by}"]
        if self.trials:
            words.append(f"{self.count} trials of {self.trials}, fidelity {self.fidelity or 'unknown'}")
        words += [f"target {self.target}"] if self.target else []
        words += [f"with {' '.join(f'{v:+g}*{k}' for k, v in self.known.items())} added exactly"] if self.known else []
        words += [f"networks in {self.predictor}"] if self.predictor else []
        words += ["variants of units are sums over their layers"] if self.level == "node" else []
        return " · ".join(words)

    def head(self) -> dict[str, Any]:
        """Return what is known, for a file's head."""
        table = {key: value for key, value in asdict(self).items() if value and key != "subject"}
        return table | ({"subject": self.subject.table()} if self.subject != Subject() else {})

    @classmethod
    def of_head(cls, head: object) -> Provenance:
        """Read what `head` gave. Raises PredictorError for anything else.

        >>> Provenance.of_head(Provenance(by=BY_SEARCH, count=40).head()).count
        40
        """
        if not isinstance(head, Mapping) or not isinstance(head.get("subject", {}), Mapping):
            raise PredictorError(f"made: expected a table, not {head!r}")
        known = {entry.name: type(getattr(cls(), entry.name)) for entry in fields(cls) if entry.name != "subject"}
        for key, value in head.items():
            if key != "subject" and not isinstance(value, known.get(key, object)):
                raise PredictorError(f"made.{key}: expected {known[key].__name__}, not {value!r}")
        values = {key: value for key, value in head.items() if key in known}
        return cls(Subject.of_table(head.get("subject", {})), **values)
