"""SIGINT and SIGTERM as a request to save and end after the current step."""

from __future__ import annotations

import signal
import sys


class StopSignal:
    """A context: inside it, `name` is that of the signal that came ("SIGTERM"), None before. A second Ctrl-C
    raises KeyboardInterrupt at once."""

    def __init__(self) -> None:
        self.name: str | None = None

    def __enter__(self) -> StopSignal:
        self._previous = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *failure) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def summary(self, step: int, out_dir: str) -> dict:
        """What a run that the signal ended says of itself."""
        return {"status": "interrupted", "signal": self.name, "step": step, "out_dir": out_dir}

    def _on_signal(self, number: int, frame) -> None:
        if self.name is not None and number == signal.SIGINT:
            raise KeyboardInterrupt  # pressed twice: do not wait for the step
        self.name = signal.Signals(number).name
        print(f"\n{self.name}: saving after this step", file=sys.stderr)
