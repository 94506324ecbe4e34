"""How much of the machine others use: what is timed on a busy one is their figure, not ours."""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass
from pathlib import Path

#: With a larger share of the machine in use by others no times are reported.
BUSY_LIMIT = 0.10


@dataclass(frozen=True)
class ProcessorTime:
    """Seconds over all cores since some moment in the past: passed, in use by anybody, in use by us."""

    total_s: float
    busy_s: float
    own_s: float

    @classmethod
    def now(cls) -> ProcessorTime:
        """Ours is that of this process and of its children that have ended; time that a hypervisor took is in use."""
        first_line = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0]
        ticks = [int(field) for field in first_line.split()[1:9]]  # the two fields behind are part of these
        idle_ticks = ticks[3] + ticks[4]
        per_second = os.sysconf("SC_CLK_TCK")
        own_s = sum(
            usage.ru_utime + usage.ru_stime
            for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        )
        return cls(sum(ticks) / per_second, (sum(ticks) - idle_ticks) / per_second, own_s)

    def foreign_share_since(self, before: ProcessorTime, children_s: float = 0.0) -> float:
        """Share of the machine, 0 to 1, that others have used since then.

        ``children_s`` of that time is known to be of our children that still run.
        """
        passed_s = self.total_s - before.total_s
        foreign_s = (self.busy_s - before.busy_s) - (self.own_s - before.own_s) - children_s
        return min(1.0, max(0.0, foreign_s / passed_s)) if passed_s > 0 else 0.0
