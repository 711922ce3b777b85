"""What runs inside a Slurm job: a worker that takes jobs from a folder and leaves results there, as JSON."""

import json
import os
import threading
import time
from pathlib import Path

from q2.files import write_json
from q2.search.engines.base import Load, Places, Worker
from q2.search.evaluation.jobs import Job

__all__ = ["IDLE", "POLL", "STOP", "asked", "done", "serve"]

POLL = 0.1
IDLE = 3600.0
"""Seconds between looks into the folder, and without a job after which a worker ends by itself."""
STOP = "stop"


def asked(box: Path, number: int) -> Path:
    """Return the file of a worker's job `number`."""
    return box / f"job-{number}.json"


def done(box: Path, number: int) -> Path:
    """Return the file of what came of it."""
    return box / f"done-{number}.json"


def serve(box: Path, load: Load, places: Places) -> None:
    """Measure job after job until the file ``stop`` appears; what making the worker raises is an answer too."""
    threading.Thread(target=_end_when_told, args=(box,), daemon=True).start()
    worker: Worker | None = None
    number, since = 0, time.monotonic()
    while time.monotonic() - since < IDLE:
        if not asked(box, number).exists():
            time.sleep(POLL)
            continue
        job = Job(**json.loads(asked(box, number).read_text(encoding="utf-8")))
        answer: dict[str, object]
        try:
            worker = worker or load()(places)
            found = worker(job)
            answer = {"trial": found.trial.to_json(), "spent": dict(found.spent), "not_finite": found.not_finite}
        except Exception as error:  # noqa: BLE001 (the engine raises it)
            answer = {"raised": type(error).__name__, "words": str(error)}
        write_json(done(box, number), answer)
        number, since = number + 1, time.monotonic()


def _end_when_told(box: Path) -> None:
    """End the process, even in the middle of a job."""
    while not (box / STOP).exists():
        time.sleep(POLL)
    os._exit(0)
