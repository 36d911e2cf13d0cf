"""One category in the layout and at the size of MVTec 3D-AD: 800 x 800, with its table.

    python tests/official_size.py DIR [--category bagel] [--train 40] [--test 20] [--jobs 2]

writes embedded objects under the name of an official category, in less than two minutes: half of
the test scans have a defect and a mask, and there are a tenth as many scans for validation as for
training. What a real sensor does is put in: noise along the rays, lost pixels at grazing rays and
highlights, and a strip at one side that it does not see.
`write_category` does the same from Python. Numbers and files are the same whenever it runs.
"""

import argparse
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from mvad.core.sample import Sample
from mvad.data.jobs import run_parallel
from mvad.data.mvtec3d import write_mvtec3d
from mvad.data.synthetic import CATEGORIES, DEFECTS, make_sample

SIDE = 800  # pixels


def list_objects(train: int, test: int) -> list[tuple[str, str, int]]:
    """(split, defect, number) of each scan; every second one of the test split is good."""
    wanted = [("train", "good", i) for i in range(train)]
    wanted += [("validation", "good", train + i) for i in range(train // 10)]
    for i in range(test):
        bad = DEFECTS[i // 2 % len(DEFECTS)]
        wanted.append(("test", bad if i % 2 else "good", i))
    return wanted


def without_strip(valid: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """`valid` (H, W) without a strip of a twentieth at one side."""
    turns = int(rng.integers(4))
    seen = np.rot90(valid, turns).copy()
    seen[:, : len(valid) // 20] = False
    return np.rot90(seen, -turns)


def write_scan(
    wanted: tuple[str, str, int], root: Path, *, category: str, object: str, side: int
) -> None:
    """Write one scan: rgb, xyz and, in the test split, gt."""
    split, defect, number = wanted
    made = make_sample(object, split, defect, number, size=side)
    rng = np.random.default_rng([number, len(split), len(defect)])
    view = replace(made.view, valid=without_strip(made.view.valid, rng))
    view = replace(view, xyz=np.where(view.valid, view.xyz, 0))
    id = f"{category}/{split}/{defect}/{number:03d}"
    write_mvtec3d([Sample(id, category, split, defect, (view,))], root, progress=False)


def write_category(
    root: str | Path,
    category: str = "bagel",
    *,
    train: int = 40,
    test: int = 20,
    object: str = "tile",
    side: int = SIDE,
    workers: int = 2,
) -> Path:
    """Write `train` good scans and `test` scans below `root`/`category`; returns `root`.

    Args:
        category: the folder's name, for example one of the ten official ones.
        object: what is scanned: puck, tile, cog or pebble.
        side: pixels; the official size is 800.
    """
    how = dict(root=Path(root), category=category, object=object, side=side)
    for _ in run_parallel(partial(write_scan, **how), list_objects(train, test), workers):
        pass
    return Path(root)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root")
    parser.add_argument("--category", default="bagel")
    parser.add_argument("--object", default="tile", choices=CATEGORIES)
    parser.add_argument("--train", type=int, default=40)
    parser.add_argument("--test", type=int, default=20)
    parser.add_argument("--side", type=int, default=SIDE)
    parser.add_argument("--jobs", type=int, default=2)
    given = vars(parser.parse_args())
    root, workers, start = given.pop("root"), given.pop("jobs"), time.perf_counter()
    write_category(root, workers=workers, **given)
    print(f"{root}: {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
