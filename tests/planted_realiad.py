"""Faults that a person can make in a Real-IAD tree, and what the check must say of each.

See test_planted_faults.py.
"""

import json
from pathlib import Path

from PIL import Image

from mvad.data.layout import make

LIST = "realiad_jsons/puck.json"


def make_tree(root: Path):
    "Fifteen objects are enough."
    make("realiad", root, categories=["puck"], splits=["train", "test"], progress=False)


def _edit(root: Path, change, name=LIST):
    "Change a list: `change` gets its content and may return another."
    path = root / name
    data = json.loads(path.read_text())
    path.write_text(json.dumps(change(data) or data))


def _first(data: dict, split="test", part="OK/", view="C1", masked=False) -> dict:
    "The first entry of that split, folder and view."
    return next(
        e
        for e in data[split]
        if e["image_path"].startswith(part)
        and f"_{view}_" in e["image_path"]
        and (e["mask_path"] is not None or not masked)
    )


def _file(root: Path, role="image_path", **which) -> Path:
    entry = _first(json.loads((root / LIST).read_text()), **which)
    return root / "realiad_100/puck" / entry[role]


def outside(root):
    def change(d):
        _first(d)["image_path"] = "../../../etc/OK/S0001/puck_0001_OK_C1_20230925.jpg"

    _edit(root, change)


def absolute(root):
    def change(d):
        _first(d, part="NG/AK", masked=True)["mask_path"] = "/etc/mask.png"

    _edit(root, change)


def no_view(root):
    def change(d):
        d["train"].remove(_first(d, "train", "OK/S0003", "C4"))

    _edit(root, change)


def view_seven(root):
    old = _file(root, part="OK/S8002", view="C2")
    new = old.with_name(old.name.replace("_C2_", "_C7_"))
    old.rename(new)

    def change(d):
        entry = _first(d, part="OK/S8002", view="C2")
        entry["image_path"] = entry["image_path"].replace("_C2_", "_C7_")

    _edit(root, change)


def two_of_one_view(root):
    "C1's image is listed, under another time, as C2's would be: C1 twice, C2 not at all."
    old = _file(root, part="OK/S8003", view="C1")
    copy = old.with_name("puck_8003_OK_C1_20240101000000.jpg")
    copy.write_bytes(old.read_bytes())

    def change(d):
        _first(d, part="OK/S8003", view="C2")["image_path"] = f"OK/S8003/{copy.name}"

    _edit(root, change)


def swapped_names(root):
    "The files of two parts change places, and the list follows."
    a, b = _file(root, part="OK/S8001"), _file(root, part="OK/S8002")
    names = (a.name, b.name)
    a.rename(b.with_name(names[0]))
    b.rename(a.with_name(names[1]))

    def change(d):
        first, second = _first(d, part="OK/S8001"), _first(d, part="OK/S8002")
        first["image_path"], second["image_path"] = f"OK/S8001/{names[1]}", f"OK/S8002/{names[0]}"

    _edit(root, change)


def listed_twice(root):
    def change(d):
        d["test"].append(dict(_first(d, part="OK/S8001", view="C3")))

    _edit(root, change)


def lacking_key(root):
    def change(d):
        del _first(d, "train")["mask_path"]

    _edit(root, change)


def no_test_list(root):
    def change(d):
        del d["test"]

    _edit(root, change)


def not_json(root):
    path = root / LIST
    path.write_text(path.read_text()[:1000])


def no_list(root):
    (root / LIST).unlink()


def no_mask_file(root):
    _file(root, "mask_path", part="NG/YW", masked=True).unlink()


def no_image_file(root):
    _file(root, part="NG/QS", view="C5").unlink()


def cut_jpeg(root):
    path = _file(root, part="OK/S0002", split="train", view="C2")
    path.write_bytes(path.read_bytes()[:700])


def marked_good(root):
    "A mask beside a good part, and listed."
    image = _file(root, part="OK/S8001", view="C1")
    Image.new("L", (100, 100), 255).save(image.with_suffix(".png"))

    def change(d):
        entry = _first(d, part="OK/S8001", view="C1")
        entry["mask_path"] = entry["image_path"].replace(".jpg", ".png")

    _edit(root, change)


def empty_mask(root):
    Image.new("L", (100, 100), 0).save(_file(root, "mask_path", part="NG/AK", masked=True))


def small_mask(root):
    path = _file(root, "mask_path", part="NG/BX", masked=True)
    Image.open(path).resize((50, 60), Image.NEAREST).save(path)


def no_masks(root):
    def change(d):
        for e in d["test"]:
            if e["image_path"].startswith("NG/ZW"):
                e["mask_path"] = None

    _edit(root, change)


def link_loop(root):
    path = _file(root, part="OK/S0005", split="train", view="C3")
    path.unlink()
    path.symlink_to(path.name)


def in_both(root):
    def change(d):
        d["test"] += [dict(e) for e in d["train"] if "OK/S0004/" in e["image_path"]]

    _edit(root, change)


def defective_training(root):
    def change(d):
        moved = [e for e in d["test"] if e["image_path"].startswith("NG/AK")]
        d["train"] += moved
        d["test"] = [e for e in d["test"] if e not in moved]

    _edit(root, change)


def wrong_class(root):
    def change(d):
        _first(d, part="OK/S8001", view="C2")["anomaly_class"] = "HS"

    _edit(root, change)


FAULTS = {
    "an image path outside of the root": (
        outside,
        "puck.json",
        "../../../etc/OK/S0001",
        "expected a path below",
    ),
    "an absolute mask path": (
        absolute,
        "puck.json",
        "found /etc/mask.png",
        "expected a path below",
    ),
    "four views": (no_view, "OK/S0003", "found 4 views, without C4", "expected C1 to C5"),
    "a view number of 7": (view_seven, "puck_8002_OK_C7", "found C7", "expected C1 to C5"),
    "two images of one view": (
        two_of_one_view,
        "OK/S8003",
        "puck_8003_OK_C1_20240101000000.jpg",
        "expected C1 to C5, one image each",
    ),
    "files of two parts swapped": (
        swapped_names,
        "puck_8002_OK_C1",
        "found S8002",
        "expected S8001",
    ),
    "an entry twice": (
        listed_twice,
        "puck_8001_OK_C3",
        "two entries in test",
        "expected each image once",
    ),
    "an entry without mask_path": (
        lacking_key,
        "puck.json",
        "lacks mask_path",
        "expected keys category, anomaly_class, image_path, mask_path",
    ),
    "a list without test": (
        no_test_list,
        "puck.json",
        "the list lacks test",
        "found keys meta, train",
        "expected keys meta, train, test",
    ),
    "a list that is not JSON": (not_json, "puck.json", "not JSON", "line", "expected JSON"),
    "no list at all": (no_list, "realiad_jsons/puck.json", "no such list", "expected a JSON file"),
    "a mask that is not there": (
        no_mask_file,
        "_NG_YW_",
        ".png",
        "found No such file",
        "expected the mask of view",
    ),
    "an image that is not there": (
        no_image_file,
        "puck_8001_NG_QS_C5",
        ".jpg",
        "found No such file",
        "expected the image of view C5",
    ),
    "an image that links to itself": (
        link_loop,
        "puck_0005_OK_C3",
        "found Too many levels of symbolic links",
        "expected the image of view C3",
    ),
    "a truncated JPEG": (cut_jpeg, "puck_0002_OK_C2", "cannot read this image", "truncated"),
    "a mask on a good part": (
        marked_good,
        "puck_8001_OK_C1",
        ".png",
        "found 10000 pixels > 0",
        "expected none",
    ),
    "an empty mask on a defective view": (
        empty_mask,
        "_NG_AK_",
        ".png",
        "found no pixel > 0",
        "expected at least 1",
    ),
    "a mask of another size": (
        small_mask,
        "_NG_BX_",
        ".png",
        "found (60, 50)",
        "expected (100, 100)",
    ),
    "a defective part without masks": (
        no_masks,
        "NG/ZW/S8001",
        "mask_path null in all views",
        "expected at least one mask",
    ),
    "a training part in the test list": (
        in_both,
        "puck.json",
        "OK/S0004 in",
        "expected each sample in one split",
    ),
    "a defective part in the training list": (
        defective_training,
        "puck.json",
        "found NG/AK/S8001",
        "expected folders OK/Sxxxx only",
    ),
    "a class that contradicts the folder": (
        wrong_class,
        "puck_8001_OK_C2",
        "found HS",
        "expected OK",
    ),
}
