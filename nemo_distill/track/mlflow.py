"""Appends to a run of MLflow, on the server of `MLFLOW_TRACKING_URI`, in the experiment of `MLFLOW_EXPERIMENT_NAME`."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from nemo_distill.track.tracker import About, Point

EXPERIMENT = "nemo-distill"
ID = "nemo_distill.id"
MOST = 1000
"""Numbers that a server takes at once (MLflow's REST API, `runs/log-batch`)."""
LONGEST = 500
"""Characters of a parameter that every server takes."""


def open_run(about: About, folder: Path) -> "MLflow":
    """The run with that id among its tags, made where there is none."""
    client = MlflowClient()
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
    experiment = client.get_experiment_by_name(name)
    number = experiment.experiment_id if experiment else client.create_experiment(name)
    found = client.search_runs([number], f"tags.`{ID}` = '{about.id}'")
    if found:
        return MLflow(client, found[0].info.run_id)
    made = client.create_run(number, run_name=about.name, tags={ID: about.id})
    params = [Param(key, value[:LONGEST]) for key, value in _flat(about.config).items()]
    client.log_batch(made.info.run_id, params=params)
    return MLflow(client, made.info.run_id)


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in config.items():
        # A name may hold letters, digits and _-./: only, so a source's is kept by what is allowed of it.
        name = prefix + "".join(c if c.isalnum() or c in "_-./:" else "_" for c in str(key))
        flat |= _flat(value, f"{name}.") if isinstance(value, Mapping) else {name: str(value)}
    return flat


class MLflow:
    """A run in MLflow (`track.tracker.Tracker`)."""

    def __init__(self, client: MlflowClient, run_id: str):
        self._client, self._id = client, run_id

    def log(self, points: Sequence[Point]) -> None:
        metrics = [
            Metric(name, value, int(point.time * 1000), point.iteration)
            for point in points
            for name, value in point.values.items()
        ]
        for first in range(0, len(metrics), MOST):
            self._client.log_batch(self._id, metrics=metrics[first : first + MOST])

    def link(self, name: str, address: str) -> None:
        self._client.set_tag(self._id, name, address)

    def close(self) -> None:
        """Every call is answered before it returns."""
