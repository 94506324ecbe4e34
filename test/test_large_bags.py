"""A recording several times larger than the memory that its evaluation may take."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from recordings import write_labelled_bag
from safetensors.torch import save_file
from tiny_network import TinyVariant, tiny_weights

from tdnet_ros.networks.catalog import CATALOG

FRAMES, HEIGHT, WIDTH = 90, 480, 640
ALLOWED_MB = 25
#: Frames after which everything that is loaded once is loaded.
SETTLED = 20

_START = f"""
import json, resource, sys
from pathlib import Path

bag, weights = sys.argv[1:]
peaks = []

def progress(done, total=0):
    if done in ({SETTLED}, {FRAMES}):
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""
# In a process of its own: its peak is not that of other tests. The network takes a millisecond.
_EVALUATE = f"""{_START}
import torch
from tiny_network import TinyVariant
from tdnet_ros.evaluation.evaluate import EvaluationSettings
from tdnet_ros.evaluation.offline import evaluate_offline
from tdnet_ros.networks.catalog import CATALOG

torch.set_num_threads(1)
CATALOG["tiny2"] = TinyVariant(subnetworks=2)
settings = EvaluationSettings(Path(bag), labels="/camera/labels", model="tiny2", weights=weights)
evaluation, worst = evaluate_offline(settings, progress)
found = {{"frames": evaluation.scores.frames, "labelled": evaluation.scores.labelled_frames}}
print(json.dumps({{"peaks_mb": peaks, **found}}))
"""
#: For the other storage: what differs between the two is how they are read.
_READ = f"""{_START}
from tdnet_ros.video.source_frames import frames
from tdnet_ros.video.sources import open_source

count = 0
for count, frame in enumerate(frames(open_source(bag, topic="/camera/image")), 1):
    progress(count)
labelled = sum(1 for _ in frames(open_source(bag, topic="/camera/labels")))
print(json.dumps({{"peaks_mb": peaks, "frames": count, "labelled": labelled}}))
"""


@pytest.mark.parametrize(("storage", "program"), [("mcap", _EVALUATE), ("sqlite3", _READ)], ids=["mcap", "sqlite3"])
def test_memory_stays_flat(tmp_path: Path, storage: str, program: str) -> None:
    bag = tmp_path / "bag"
    try:
        write_labelled_bag(bag, storage, FRAMES, (HEIGHT, WIDTH))
        size_mb = sum(file.stat().st_size for file in bag.iterdir()) / 2**20
        assert size_mb > 3 * ALLOWED_MB
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(CATALOG, "tiny2", TinyVariant(subnetworks=2))
            save_file(tiny_weights("tiny2"), tmp_path / "tiny2.safetensors")
        command = [sys.executable, "-c", program, str(bag), str(tmp_path / "tiny2.safetensors")]
        ran = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    finally:
        shutil.rmtree(bag, ignore_errors=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    found = json.loads(ran.stdout)
    assert (found["frames"], found["labelled"]) == (FRAMES, FRAMES // 10)
    settled, peak = found["peaks_mb"]
    assert peak - settled < ALLOWED_MB, (
        f"{settled:.0f} MB after {SETTLED} frames, {peak:.0f} MB at most, bag {size_mb:.0f} MB"
    )
