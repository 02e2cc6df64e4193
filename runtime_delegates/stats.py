"""What runs of a program read, whichever runtime ran it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stats:
    """Counts of runs; the fields add up.

    calls runs, tokens their tokens, ffn_calls sparse FFN layers run, experts_read out of experts_total the experts whose
    weights were read.
    """

    calls: int = 0
    tokens: int = 0
    ffn_calls: int = 0
    experts_read: int = 0
    experts_total: int = 0

    def __add__(self, other: Stats) -> Stats:
        return Stats(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))

    @property
    def read_share(self) -> float | None:
        """Share of the experts' weights that was read, in [0, 1]; None for a model without experts."""
        return self.experts_read / self.experts_total if self.experts_total else None
