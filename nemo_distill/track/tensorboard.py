"""Writes TensorBoard's event files: `tensorboard --logdir RUNS/.track/tensorboard`."""

import json
import time
from collections.abc import Sequence
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.plugins.text.metadata import create_summary_metadata
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from nemo_distill.track.tracker import About, Point


def open_run(about: About, folder: Path) -> "TensorBoard":
    """A new file of the run's; TensorBoard reads those of one folder one after the other."""
    folder = folder / f"{about.name}-{about.id[:4]}"
    new = not folder.exists()
    run = TensorBoard(EventFileWriter(str(folder)))
    if new:
        run.link("config", f"```\n{json.dumps(about.config, indent=1)}\n```")
    return run


class TensorBoard:
    """A run in TensorBoard (`track.tracker.Tracker`)."""

    def __init__(self, writer: EventFileWriter):
        self._writer = writer

    def log(self, points: Sequence[Point]) -> None:
        for point in points:
            values = [Summary.Value(tag=name, simple_value=value) for name, value in point.values.items()]
            event = Event(wall_time=point.time, step=point.iteration, summary=Summary(value=values))
            self._writer.add_event(event)
        self._writer.flush()

    def link(self, name: str, address: str) -> None:
        text = TensorProto(dtype="DT_STRING", string_val=[address.encode()])
        metadata = create_summary_metadata(display_name=name, description="")
        value = Summary.Value(tag=name, tensor=text, metadata=metadata)
        self._writer.add_event(Event(wall_time=time.time(), summary=Summary(value=[value])))
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()
