"""A study that several processes share through one of Optuna's storages: claims of recipes, and heartbeats."""

import hashlib
import json
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, get_storage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import SQLAlchemyError

from q2.errors import ConfigError, Q2Error
from q2.passes import Step
from q2.plugins.catalogue import one_line
from q2.search.strategies.base import Problem
from q2.search.strategies.parameters import key_of

__all__ = ["Claim", "Direction", "SharedStudy"]

Direction = Literal["maximize", "minimize"]

_ALIVE = "q2:alive:"
_PROBLEM = "q2:problem"
_OWNER = "q2:owner"
_ERROR = "q2:error"
_GONE = "gone"
_PAUSES = (0.2, 0.5, 1.0)


@dataclass(frozen=True)
class Claim:
    """A trial of the shared study that this process evaluates."""

    id: int
    number: int


class SharedStudy:
    """The study in a storage. A recipe is added in a single step; of two equal recipes, the one added first counts.

    The problem's `trials` are shared by all processes. Every process writes heartbeats; a process without one for
    `grace` seconds is considered dead, and others take over its unfinished trials. A trial that failed without an error
    was given back and does not count. Raises `ConfigError` for a storage that cannot be used.
    """

    def __init__(
        self, name: str, storage: str, grace: float, problem: Problem, directions: Sequence[Direction]
    ) -> None:
        self.name, self.grace, self.problem = name, grace, problem
        self.where = _shown(storage)
        self.owner = uuid.uuid4().hex
        self.heard: dict[str, tuple[object, float]] = {}
        self._waits = False
        with self._reached(ConfigError):
            self.storage = _opened(storage)
            optuna.create_study(
                storage=self.storage, study_name=self.name, directions=list(directions), load_if_exists=True
            )
            self.id = self.storage.get_study_id_from_name(self.name)
            self._same_problem(directions)
            attrs = self.storage.get_study_user_attrs(self.id)
            others = sum(key.startswith(_ALIVE) for key in attrs)
            self.place = (others, len(self.storage.get_all_trials(self.id, deepcopy=False)))
            self._listen(attrs)
            self._say_alive()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep_alive, daemon=True)
        self._thread.start()

    def trials(self) -> list[FrozenTrial]:
        """Return all trials by number, including those that were given back."""
        with self._reached():
            found = self.storage.get_all_trials(self.id, deepcopy=False)
            return [trial for trial in found if trial.state != TrialState.WAITING]

    def counts(self, trial: FrozenTrial) -> bool:
        """Return whether a trial counts: whether it is complete, pruned, failed with an error or being evaluated."""
        return trial.state != TrialState.FAIL or _ERROR in trial.user_attrs

    def foreign(self, trial: FrozenTrial) -> bool:
        """Return whether a trial belongs to another process."""
        return bool(trial.user_attrs.get(_OWNER) != self.owner)

    def room(self) -> int:
        """Return how many more trials all processes together may start."""
        return self.problem.trials - sum(self._spends(trial) for trial in self.trials())

    def busy(self) -> bool:
        """Return whether other processes are evaluating trials."""
        return any(trial.state == TrialState.RUNNING and self.foreign(trial) for trial in self.trials())

    def wait(self) -> bool:
        """Wait a little for other processes, which may give trials back. Return False if the study is closed."""
        if not self._waits:
            self._waits = True
            count = sum(trial.state == TrialState.RUNNING for trial in self.trials())
            self.problem.show(Step("optuna", 0, f"waits for {count} trials of other processes on {self.where}"))
        return not self._stop.wait(min(self.grace / 8, 5.0))

    def claim(self, trial: FrozenTrial) -> Claim | None:
        """Add a recipe to the study; return None if another process has it or no trials are left."""
        with self._reached():
            template = create_trial(
                state=TrialState.RUNNING,
                params=trial.params,
                distributions=trial.distributions,
                user_attrs={_OWNER: self.owner},
                system_attrs={key: value for key, value in trial.system_attrs.items() if key.endswith(":generation")},
            )
            made = self.storage.create_new_trial(self.id, template)
            number = self.storage.get_trial(made).number
            before = [other for other in self.trials() if other.number < number and self.counts(other)]
            taken = any(key_of(other.params) == key_of(trial.params) for other in before)
            if taken or sum(map(self._spends, before)) >= self.problem.trials:
                self.storage.set_trial_state_values(made, TrialState.FAIL)
                return None
            return Claim(made, number)

    def finish(
        self,
        claim: Claim,
        state: TrialState,
        values: Sequence[float] | None,
        error: str,
        rungs: Mapping[int, float],
    ) -> None:
        """Store the result of a claim, unless another process has taken the trial over in the meantime."""
        with self._reached():
            try:
                for step, value in rungs.items():
                    self.storage.set_trial_intermediate_value(claim.id, step, value)
                if error:
                    self.storage.set_trial_user_attr(claim.id, _ERROR, error)
                self.storage.set_trial_state_values(claim.id, state, values)
            except UpdateFinishedTrialError:
                pass

    def abandoned(self) -> Iterator[dict[str, Any]]:
        """Yield the parameters of unfinished trials of dead processes, each to one process only."""
        with self._reached():
            self._listen(self.storage.get_study_user_attrs(self.id))
            for trial in self.trials():
                if trial.state == TrialState.RUNNING and self.foreign(trial) and self._gone(trial):
                    try:
                        held = self.storage.get_trial_id_from_study_id_trial_number(self.id, trial.number)
                        self.storage.set_trial_state_values(held, TrialState.FAIL)
                    except UpdateFinishedTrialError:
                        continue
                    yield dict(trial.params)

    def close(self) -> None:
        """Stop the heartbeats and record that this process has left."""
        if not self._stop.is_set():
            self._stop.set()
            self._thread.join()
            with self._reached():
                self.storage.set_study_user_attr(self.id, _ALIVE + self.owner, _GONE)

    def _spends(self, trial: FrozenTrial) -> bool:
        return self.counts(trial) and trial.state != TrialState.PRUNED

    def _gone(self, trial: FrozenTrial) -> bool:
        """Return whether a trial's owner has left, or sent no heartbeat for too long by this machine's clock."""
        owner = str(trial.user_attrs.get(_OWNER))
        said, since = self.heard.setdefault(owner, (None, time.monotonic()))
        return said == _GONE or time.monotonic() - since > self.grace

    def _listen(self, attrs: Mapping[str, Any]) -> None:
        for key, said in attrs.items():
            owner = key.removeprefix(_ALIVE)
            if key.startswith(_ALIVE) and self.heard.get(owner, (None,))[0] != said:
                self.heard[owner] = said, time.monotonic()

    def _say_alive(self) -> None:
        self.storage.set_study_user_attr(self.id, _ALIVE + self.owner, time.time())

    def _keep_alive(self) -> None:
        while not self._stop.wait(self.grace / 4):
            with suppress(Exception):  # a storage that fails briefly: the next access reports it
                self._say_alive()

    def _same_problem(self, directions: Sequence[Direction]) -> None:
        """Raise `ConfigError`, with the first difference, for the study of another search."""
        space = self.problem.space
        options: list[object] = [[*choice.layers, *choice.options] for choice in space.choices]
        options += [[unit.name, unit.choices, unit.variants] for unit in space.units]
        mine = {
            "target": str(self.problem.target),
            "seed": self.problem.seed,
            "fidelity": self.problem.fidelity,
            "objectives": [f"{o.direction} {o.metric} / {o.scale:g}" for o in self.problem.objectives],
            "directions": list(directions),
            "constraints": [str(bound) for bound in self.problem.constraints],
            "space": hashlib.sha256(json.dumps(options).encode()).hexdigest()[:16],
            "evaluation": self.problem.identity,
        }
        theirs = self.storage.get_study_user_attrs(self.id).get(_PROBLEM)
        if theirs is None:
            self.storage.set_study_user_attr(self.id, _PROBLEM, mine)
            return
        for key, value in mine.items():
            if theirs.get(key) != value:
                what = f"{key} is {theirs.get(key)!r}, not {value!r}"
                raise ConfigError(f"study: {self.name!r} in {self.where} belongs to another search: {what}")

    @contextmanager
    def _reached(self, kind: type[Q2Error] = Q2Error) -> Iterator[None]:
        """Turn any error of the storage into one line."""
        try:
            yield
        except Q2Error:
            raise
        except Exception as error:
            cause: BaseException = error
            while cause.__cause__ is not None:
                cause = cause.__cause__
            raise kind(f"storage: {self.where} cannot be used: {one_line(cause)}") from error


def _opened(storage: str) -> BaseStorage:
    """Open a database or a journal; try again if another process is creating the database's tables."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if "://" not in storage:
        return JournalStorage(JournalFileBackend(storage))
    options = {"connect_args": {"timeout": 60}} if storage.startswith("sqlite") else None
    for pause in _PAUSES:
        with suppress(SQLAlchemyError, optuna.exceptions.StorageInternalError):
            return get_storage(RDBStorage(storage, engine_kwargs=options))
        time.sleep(pause)
    return get_storage(RDBStorage(storage, engine_kwargs=options))


def _shown(storage: str) -> str:
    """Return a storage's name without its password.

    >>> _shown("postgresql://q2:secret@db/studies")
    'postgresql://q2:***@db/studies'
    """
    scheme, mark, rest = storage.partition("://")
    login, at, place = rest.rpartition("@")
    return f"{scheme}{mark}{login.split(':')[0] + ':***' if ':' in login else login}{at}{place}" if at else storage
