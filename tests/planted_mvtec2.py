"""Faults to plant in a freshly made MVTec AD 2 tree:
how to spoil it, and what the line of the check must say (file, found, expected).
"""

from pathlib import Path

PUBLIC = "puck/test_public"


def unknown_light(root: Path):
    (root / PUBLIC / "good/000_regular.png").rename(root / PUBLIC / "good/000_sunny.png")


def unmasked(root: Path):
    (root / PUBLIC / "ground_truth/bad/002_shift_3_mask.png").unlink()


def orphaned(root: Path):
    (root / PUBLIC / "bad/001_overexposed.png").unlink()


def truncated_private(root: Path):
    path = root / "tile/test_private/003_regular.png"
    path.write_bytes(path.read_bytes()[:500])


FAULTS = {
    "an unknown light": (
        unknown_light,
        f"{PUBLIC}/good/000_sunny.png",
        "found 000_sunny.png",
        "expected a name that ends in regular",
    ),
    "an image without its mask": (
        unmasked,
        f"{PUBLIC}/bad/002_shift_3.png",
        "found none",
        f"{PUBLIC}/ground_truth/bad/002_shift_3_mask.png",
    ),
    "a mask without its image": (
        orphaned,
        f"{PUBLIC}/ground_truth/bad/001_overexposed_mask.png",
        "found no 001_overexposed in",
        "expected an image 001_overexposed.png",
    ),
    "a truncated image of a private set": (
        truncated_private,
        "tile/test_private/003_regular.png",
        "found image file is truncated",
        "copy or export it again",
    ),
}
