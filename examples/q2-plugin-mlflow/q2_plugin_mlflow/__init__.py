"""A q2 plugin that logs the trials of searches to MLflow."""

from functools import lru_cache
from pathlib import Path

import mlflow

from q2.plugins import hookimpl
from q2.search.trials.trial import Trial

q2_api = "1"


@hookimpl
def q2_after_trial(trial: Trial, value: float | None, folder: Path) -> None:
    """Log a trial as a run inside the search's run, unless it is there already."""
    parent, logged = _search(folder.absolute())
    if trial.id in logged:
        return
    logged.add(trial.id)
    tags = {"q2.search": str(folder.absolute()), "q2.trial": trial.id, "mlflow.parentRunId": parent}
    client = mlflow.MlflowClient()
    run = client.create_run("0", run_name=trial.label, tags=tags).info.run_id
    client.log_param(run, "strategy", trial.strategy)
    client.log_param(run, "fidelity", trial.fidelity)
    for name, measured in trial.metrics.items():
        client.log_metric(run, name, measured)
    if value is not None:
        client.log_metric(run, "target", value)
    client.log_dict(run, dict(trial.recipe), "recipe.json")
    client.set_terminated(run, "FINISHED" if trial.state == "complete" else "FAILED")


@lru_cache(maxsize=1)
def _search(folder: Path) -> tuple[str, set[str]]:
    """Return the id of a search's run, made if it is not there, and the ids of the trials that it has."""
    client = mlflow.MlflowClient()
    found = client.search_runs(["0"], f"tags.`q2.search` = '{folder}'", max_results=10_000)
    trials = {run.data.tags["q2.trial"] for run in found if "q2.trial" in run.data.tags}
    parents = [run.info.run_id for run in found if "q2.trial" not in run.data.tags]
    if parents:
        return parents[0], trials
    return client.create_run("0", run_name=folder.name, tags={"q2.search": str(folder)}).info.run_id, trials
