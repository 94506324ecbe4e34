"""Writes the index of a CamVid folder, ``sequences.csv``, as trainings and evaluations read it (docs/data.md).

    camvid_index.py FOLDER    FOLDER holds train/ and trainannot/, val/ and valannot/, test/ and testannot/

Pictures are called SEQUENCE_NUMBER, such as 0001TP_006690.png or 0006R0_f00930.png, and their labels the same, .png.
"""

from __future__ import annotations

import csv
import re
import sys
from itertools import pairwise
from pathlib import Path

SPLITS = ("train", "val", "test")
COLUMNS = ("split", "sequence", "frame", "timestamp_s", "label_rate_hz", "image", "label")
#: Nominal rate of the camera, which numbers its frames.
RATE_HZ = 30
_NAME = re.compile(r"(\w+)_f?(\d+)")
_SUFFIXES = (".png", ".jpg")


def rows_of(folder: Path, split: str) -> list[dict[str, object]]:
    """One row for each picture of a split, by sequence and number; SystemExit for a picture without a label."""
    pictures = []
    for path in (folder / split).glob("*"):
        name = _NAME.fullmatch(path.stem)
        if name is None or path.suffix not in _SUFFIXES:
            continue
        label = folder / f"{split}annot" / f"{path.stem}.png"
        if not label.is_file():
            raise SystemExit(f"{path} has no label, expected {label}")
        pictures.append((name[1], int(name[2]), path, label))
    pictures.sort()
    rows = []
    for sequence, number, path, label in pictures:
        numbers = sorted(other for name, other, *_ in pictures if name == sequence)
        # What most neighbours are apart: here and there a frame is missing, or is labelled in between.
        steps = sorted(after - before for before, after in pairwise(numbers))
        step = steps[len(steps) // 2] if steps else RATE_HZ
        image, annotation = path.relative_to(folder).as_posix(), label.relative_to(folder).as_posix()
        fields = (split, sequence, number, f"{number / RATE_HZ:.4f}", f"{RATE_HZ / step:g}", image, annotation)
        rows.append(dict(zip(COLUMNS, fields, strict=True)))
    return rows


def main(folder: Path) -> int:
    """Write the index and say what is in it; 0."""
    rows = [row for split in SPLITS for row in rows_of(folder, split)]
    if not rows:
        raise SystemExit(f"{folder} holds no picture, expected {', '.join(f'{split}/' for split in SPLITS)}")
    with (folder / "sequences.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    sys.stdout.write(f"{folder / 'sequences.csv'}: {len(rows)} frames\n")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    sys.exit(main(Path(sys.argv[1])))
