"""The fingerprint and the trials of the tests of stores."""

from q2.search.trials.store import Fingerprint
from q2.search.trials.trial import Trial

RUN = Fingerprint("digits-dit", "0a1b", "0.1.0", {"images": 200, "sampler": {"steps": 8}})


def trial(number: int, **metrics: float) -> Trial:
    return Trial({"a": f"uaq-{number % 8 + 1}", "b": f"uaq-{number // 8 + 1}"}, metrics, number=number)
