"""What a process holds: resident memory, threads, file descriptors, processor time; read from /proc."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_MIB = 1 << 10  # the kernel counts in KiB


@dataclass(frozen=True)
class Holdings:
    """At one moment. ``resident_mib`` is all of it; ``shared_mib`` the part that lies in shared memory segments."""

    resident_mib: float
    shared_mib: float
    threads: int
    descriptors: int
    processor_s: float

    @classmethod
    def of(cls, pid: int) -> Holdings:
        """Those of a process of ours; raises FileNotFoundError or ProcessLookupError when it has ended."""
        folder = Path(f"/proc/{pid}")
        fields = dict(line.split(":", 1) for line in (folder / "status").read_text(encoding="ascii").splitlines())
        # The name of the program, in brackets, may hold spaces; user and system time are the 12th and 13th behind it.
        times = (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[11:13]
        return cls(
            resident_mib=int(fields["VmRSS"].split()[0]) / _MIB,
            shared_mib=int(fields["RssShmem"].split()[0]) / _MIB,
            threads=int(fields["Threads"]),
            descriptors=len(os.listdir(folder / "fd")),
            processor_s=sum(map(int, times)) / os.sysconf("SC_CLK_TCK"),
        )
