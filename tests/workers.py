"""What the workers of a test's cluster import: light, for they start while the test waits."""

import os
import signal
import time
from pathlib import Path

from fakes import FakePipeline, fake_report


class Stub(FakePipeline):
    """A network that takes no time and notes which process read what; `deadly` kills its process once.

    together: processes that must have started before the first photograph is read.
    """

    def __init__(self, notes: Path, deadly: str | None = None, together: int = 1):
        super().__init__()
        self.notes, self.deadly, self.together = notes, deadly, together
        (notes / f"{os.getpid()}.started").touch()

    def __call__(self, photograph, progress=None):
        limit = time.monotonic() + 120
        while len(list(self.notes.glob("*.started"))) < self.together and time.monotonic() < limit:
            time.sleep(0.05)
        mark = self.notes / "died"
        if photograph.name == self.deadly and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        (self.notes / f"{os.getpid()}-{photograph.name}").touch()
        return fake_report(photograph, planes=False)
