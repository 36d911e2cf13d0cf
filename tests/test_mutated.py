"""Files that were damaged at random: each is read, or refused by an `MvadError`; nothing else.

A hundred mutations a kind with a fixed seed, more with MVAD_LONG=1. A file that takes longer than a
few seconds, or much memory, counts as one that hangs.
"""

import json
import os
import random
import resource
import shutil
import signal
import struct
import tarfile
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from mvad.core.evaluate import read_record
from mvad.core.sample import MvadError
from mvad.core.training import checkpoint_header
from mvad.data import base
from mvad.data.archives import unpack_archive
from mvad.data.clouds import read_cloud
from mvad.data.depth_maps import read_camera_file
from mvad.data.notes import mask_facts
from mvad.data.synthetic import Synthetic
from mvad.runs.verbs import create_detector, load_detector

N = 1000 if os.environ.get("MVAD_LONG") else 100  # mutations of a kind
SECONDS, BYTES = 10, 3_000_000_000  # of one file
RECORDS = Path(__file__).resolve().parent.parent / "mvad/reproduce/records"


def mutate(data: bytes, rng: random.Random) -> bytes:
    "One to three random damages: bits, blocks, lengths, ends."
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(max(1, min(len(out), rng.choice((64, 512, len(out) or 1)))))
        way = rng.randrange(7)
        if way == 0 and out:
            out[at] ^= 1 << rng.randrange(8)
        elif way == 1:
            out[at : at + 4] = struct.pack("<I", rng.choice((0, 1, 2**31 - 1, 2**32 - 1)))
        elif way == 2:
            out[at : at + 4] = rng.randbytes(4)
        elif way == 3:
            del out[at:]
        elif way == 4:
            del out[at : at + rng.randrange(1, 64)]
        elif way == 5:
            out[at:at] = out[at : at + rng.randrange(1, 64)]
        else:
            out[at : at + 16] = bytes(len(out[at : at + 16]))
    return bytes(out)


def images(folder: Path):
    a = np.random.default_rng(0).integers(0, 256, (24, 20, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    im = Image.fromarray(a)
    im.save(folder / "a.png", exif=exif)
    im.save(folder / "a.jpg", exif=exif)
    im.save(folder / "a.bmp")
    im.quantize(8).save(folder / "palette.png", transparency=1)
    im.convert("RGBA").save(folder / "alpha.png")
    Image.fromarray(a[..., 0].astype(np.uint16) * 16).save(folder / "wide.png")
    tifffile.imwrite(folder / "wide.tif", a.astype(np.uint16) * 9, photometric="rgb")
    im.save(folder / "a.tif", compression="tiff_lzw")


def read_image(path: Path):
    refused(base.read_header, path)
    refused(base.read_rgb, path)
    refused(base.decode_fully, path)


def masks(folder: Path):
    Image.fromarray(np.eye(24, dtype=np.uint8) * 255).save(folder / "m.png")
    Image.fromarray(np.eye(24, dtype=bool)).save(folder / "one.png")
    Image.fromarray(np.eye(24, dtype=np.uint8) * 255).save(folder / "m.bmp")


def read_mask(path: Path):
    refused(base.read_mask, path)
    refused(mask_facts, base.Record("a/test/b/0", "a", "test", "b", ({"gt": path},)))


def clouds(folder: Path):
    xyz = (np.random.default_rng(0).random((12, 10, 3)) + [0, 0, 1]).astype(np.float32)
    tifffile.imwrite(folder / "a.tiff", xyz, photometric="minisblack", planarconfig="contig")
    base.write_npy(folder / "a.npy", xyz)
    base.write_exr(folder / "a.exr", {"Z": xyz[..., 2]})
    points = "\n".join(" ".join(f"{v:.4f}" for v in p) for p in xyz.reshape(-1, 3))
    head = "ply\nformat ascii 1.0\nelement vertex 120\nproperty float x\nproperty float y\n"
    (folder / "a.ply").write_text(f"{head}property float z\nend_header\n{points}\n")
    head = "VERSION .7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH 10\nHEIGHT 12\n"
    (folder / "a.pcd").write_text(f"{head}POINTS 120\nDATA ascii\n{points}\n")
    head = head.encode() + b"POINTS 120\nDATA binary\n"
    (folder / "b.pcd").write_bytes(head + xyz.tobytes())


def read_points(path: Path):
    if path.suffix == ".exr":
        refused(base.read_exr, path)
    else:
        refused(read_cloud, path)
        refused(base.read_npy, path) if path.suffix == ".npy" else None
    refused(base.read_header, path) if base.has_header(path) else None
    refused(base.decode_fully, path) if base.has_header(path) else None


def archives(folder: Path):
    (folder / "part").mkdir()
    for i in range(3):
        (folder / f"part/{i}.bin").write_bytes(random.Random(i).randbytes(3000))
    for kind in ("", ":gz", ":bz2", ":xz"):
        with tarfile.open(folder / f"a.tar{kind.replace(':', '.')}", f"w{kind}") as t:
            t.add(folder / "part", arcname="part")
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as z:
        for p in sorted((folder / "part").iterdir()):
            z.write(p, f"part/{p.name}")
    shutil.rmtree(folder / "part")


def read_archive(path: Path):
    refused(unpack_archive, path, path.parent / "out", progress=False)
    shutil.rmtree(path.parent / "out", ignore_errors=True)


def checkpoints(folder: Path):
    bank = create_detector("memory_bank", scale="smoke", cached=False)
    train = Synthetic(category="puck", split="train", size="smoke")
    bank.fit([train[0]], progress=False).save(folder / "bank.safetensors")


def read_checkpoint(path: Path):
    refused(checkpoint_header, path)
    refused(load_detector, path)


def records(folder: Path):
    sound = min(RECORDS.rglob("*.record.json"), key=lambda p: p.stat().st_size)
    shutil.copy(sound, folder / "record.json")


def tables(folder: Path):
    matrix = {"K": [[500, 0, 60], [0, 500, 60], [0, 0, 1]]}
    (folder / "camera.json").write_text(json.dumps(matrix))
    base.write_yaml(folder / "camera.yaml", matrix)
    (folder / "camera.txt").write_text("500 0 60\n0 500 60\n0 0 1\n")


def read_table(path: Path):
    refused(base.read_json, path) if path.suffix == ".json" else None
    refused(base.read_yaml, path) if path.suffix == ".yaml" else None
    refused(read_camera_file, path)


KINDS = {
    "images": (images, read_image),
    "masks": (masks, read_mask),
    "clouds": (clouds, read_points),
    "archives": (archives, read_archive),
    "checkpoints": (checkpoints, read_checkpoint),
    "records": (records, lambda path: refused(read_record, path)),
    "tables": (tables, read_table),
}


class Hangs(BaseException):
    "A file took too long."


def refused(call, *args, **kwargs):
    "Call; an `MvadError` is fine."
    try:
        call(*args, **kwargs)
    except MvadError as e:
        assert "\n" not in str(e)


@pytest.fixture
def limits():
    "An alarm for what hangs, and a bound on memory."

    def alarm(*_):
        raise Hangs

    before = signal.signal(signal.SIGALRM, alarm)
    bound = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, bound[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, bound)
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("kind", KINDS)
def test_reads_or_refuses(kind, tmp_path, limits):
    make, read = KINDS[kind]
    make(tmp_path)
    sound = {p: p.read_bytes() for p in sorted(tmp_path.iterdir())}
    for path in sound:
        read(path)  # warm, and within the limits
    wrong = []
    rng = random.Random(zlib.crc32(kind.encode()))
    for n in range(N):
        path = list(sound)[n % len(sound)]
        damaged = mutate(sound[path], rng)
        path.write_bytes(damaged)
        signal.alarm(SECONDS)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                read(path)
        except (Exception, Hangs) as e:
            wrong.append(f"{path.name}, mutation {n}: {type(e).__name__} {str(e)[:120]}")
        finally:
            signal.alarm(0)
            path.write_bytes(sound[path])
    assert not wrong, f"{len(wrong)} of {N}: " + "; ".join(wrong[:5])
