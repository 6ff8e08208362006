"""The sessions that the server remembers: each case goes with its own, and none because of who has none."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from ..guard import SWEEP
from .cases import Case, forget, sweep_forgotten


@contextlib.asynccontextmanager
async def kept(app: Any) -> AsyncIterator[None]:
    """While Gradio's `app` runs: sessions that delete what they hold, and a sweep for what they could not."""
    app.state_holder = _sessions()
    app.state_holder.set_blocks(app.get_blocks())
    sweeping = asyncio.create_task(_sweep())
    try:
        yield
    finally:
        sweeping.cancel()


async def _sweep() -> None:
    while True:
        await asyncio.sleep(SWEEP)
        with contextlib.suppress(OSError):  # perhaps the next time
            await asyncio.to_thread(sweep_forgotten)


def _sessions() -> Any:
    """Gradio's own drop the one that was used least lately, be there a case in it, and leave its folder."""
    from gradio.state_holder import StateHolder

    class Sessions(StateHolder):
        def update(self, session_id: str) -> None:
            """Note that a session is used. Too many with a case cost the oldest of them its case, too many without one
            (every call of a program is a session) only each other.
            """
            with self.lock:
                if session_id in self.session_data:
                    self.session_data.move_to_end(session_id)
                held, bare = [], []
                for name, session in list(self.session_data.items()):
                    (held if _cases(session) else bare).append(name)
                surplus = [*held[: -self.capacity], *bare[: -self.capacity]]
                gone = [self.session_data.pop(name) for name in surplus]
                for name in surplus:
                    self.time_last_used.pop(name, None)
            for case in (case for session in gone for case in _cases(session)):
                forget(case)

    return Sessions()


def _cases(session: Any) -> list[Case]:
    return [value for value in list(session.state_data.values()) if isinstance(value, Case)]
