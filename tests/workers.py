"""What the workers of a test's cluster import: light, for they start while the test waits."""

import os
import signal
from pathlib import Path

from fakes import FakePipeline, fake_report


class Stub(FakePipeline):
    """A network that takes no time and notes which process read what; `deadly` kills its process once."""

    def __init__(self, notes: Path, deadly: str | None = None):
        super().__init__()
        self.notes, self.deadly = notes, deadly

    def __call__(self, photograph, progress=None):
        mark = self.notes / "died"
        if photograph.name == self.deadly and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        (self.notes / f"{os.getpid()}-{photograph.name}").touch()
        return fake_report(photograph, planes=False)
