"""Where a network runs: what one configuration leaves to the next."""

from __future__ import annotations

import torch

from tdnet_ros.streaming.runtime import Runtime


def test_no_number_of_threads_takes_back_an_earlier_one_and_leaves_the_callers_own() -> None:
    before = torch.get_num_threads()
    for threads, expected in ((before + 1, before + 1), (before + 2, before + 2), (0, before), (0, before)):
        Runtime("cpu", threads=threads)
        assert torch.get_num_threads() == expected
    Runtime("cpu", threads=before + 1)
    torch.set_num_threads(before + 2)
    Runtime("cpu", threads=0)
    assert torch.get_num_threads() == before + 2
    torch.set_num_threads(before)
