"""The index of a CamVid folder: sequences, times and rates from the pictures' names."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tdnet_ros.training.datasets import read_labelled_frames

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))

from camvid_index import main


def write(folder: Path, split: str, *names: str) -> None:
    for place, picture in ((split, np.zeros((4, 6, 3), np.uint8)), (f"{split}annot", np.full((4, 6), 3, np.uint8))):
        (folder / place).mkdir(exist_ok=True)
        for name in names:
            assert cv2.imwrite(str(folder / place / f"{name}.png"), picture)


def test_names_give_sequence_time_and_rate(tmp_path: Path) -> None:
    write(tmp_path, "train", "0006R0_f00960", "0006R0_f00930", "0001TP_006690")
    write(tmp_path, "val", *(f"0016E5_{number:05d}" for number in range(7959, 7967, 2)))
    (tmp_path / "train" / "notes.txt").touch()
    assert main(tmp_path) == 0
    lines = (tmp_path / "sequences.csv").read_text().splitlines()
    assert lines[:5] == [
        "split,sequence,frame,timestamp_s,label_rate_hz,image,label",
        "train,0001TP,6690,223.0000,1,train/0001TP_006690.png,trainannot/0001TP_006690.png",
        "train,0006R0,930,31.0000,1,train/0006R0_f00930.png,trainannot/0006R0_f00930.png",
        "train,0006R0,960,32.0000,1,train/0006R0_f00960.png,trainannot/0006R0_f00960.png",
        "val,0016E5,7959,265.3000,15,val/0016E5_07959.png,valannot/0016E5_07959.png",
    ]
    frames = read_labelled_frames(tmp_path / "sequences.csv", "val", 11)
    assert [frame.number for frame in frames] == [7959, 7961, 7963, 7965]


def test_a_picture_without_a_label_is_named(tmp_path: Path) -> None:
    write(tmp_path, "test", "0001TP_008550")
    (tmp_path / "testannot" / "0001TP_008550.png").unlink()
    with pytest.raises(SystemExit, match=r"0001TP_008550\.png has no label, expected .*testannot"):
        main(tmp_path)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="holds no picture, expected train/, val/, test/"):
        main(tmp_path)
