"""Collects requests into the batches that an engine generates.

batcher = Batcher(Engine.load(Path("hf"), threads=1))
batcher.submit(request, done=print)              # prints the completion, from the batcher's thread
batcher.stop()
"""

import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable


class Batcher:
    """Collects requests into batches for the engine, in a thread of its own.

    Takes `generate`, `rows`, `prompts` from an engine; `bucket(request)` says which requests may share a batch.
    A batch is answered when it is full, or when nothing has arrived for `linger` seconds.
    """

    def __init__(self, engine, *, linger: float = 0.25):
        self.engine = engine
        self.linger = linger
        self.answered = 0
        self._buckets: dict[int, OrderedDict[tuple[int, ...], list]] = {}
        self._arrived = 0.0
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="batcher", daemon=True)
        self._thread.start()

    def submit(self, request, done: Callable) -> None:
        """Answer `request`; calls `done(answer)` or `done(exception)` in the batcher's thread."""
        with self._changed:
            bucket = self._buckets.setdefault(self.engine.padded_length(request.prompt), OrderedDict())
            bucket.setdefault(request.prompt, []).append((request, done))
            self._arrived = time.monotonic()
            self._changed.notify()

    def stop(self) -> None:
        """Leave what waits unanswered and end the thread, within one batch."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while batch := self._next():
            requests, callbacks = zip(*batch, strict=True)
            try:
                for index, answer in self.engine.generate(requests):
                    self.answered += 1
                    callbacks[index](answer)
                    if self._stopping:
                        return
            except Exception as error:  # every request of the batch fails with it; the next batch may do better
                traceback.print_exc()
                for callback in callbacks:
                    callback(error)

    def _next(self) -> list | None:
        with self._changed:
            while not self._stopping:
                counts = {length: sum(map(len, bucket.values())) for length, bucket in self._buckets.items() if bucket}
                fullest = max(counts, key=lambda length: counts[length], default=None)
                quiet = time.monotonic() - self._arrived
                if fullest is not None and (counts[fullest] >= self.engine.shapes.rows or quiet >= self.linger):
                    return self._take(self._buckets[fullest])
                self._changed.wait(None if fullest is None else self.linger - quiet)
        return None

    def _take(self, bucket: OrderedDict) -> list:
        """As many requests as a batch holds, prompts with most requests first: they are read once for all."""
        batch: list = []
        for prompt in sorted(bucket, key=lambda p: -len(bucket[p]))[: self.engine.shapes.prompts]:
            room = self.engine.shapes.rows - len(batch)
            batch += bucket[prompt][:room]
            del bucket[prompt][:room]
            if not bucket[prompt]:
                del bucket[prompt]
        return batch
