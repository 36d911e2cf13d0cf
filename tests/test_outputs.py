"""What a notebook in git shows is what its code shows: outputs older than the code are named."""

import copy
import json

import outputs
import pytest


@pytest.mark.parametrize("path", outputs.notebooks(), ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_stored_outputs_belong_to_the_code(path):
    nb = json.loads(path.read_text(encoding="utf-8"))
    assert outputs.state(nb) != "stale", (
        f"the code of {path.name} changed after its outputs were stored: make outputs"
        f" NB={path.relative_to(outputs.ROOT)}"
    )
    failed = [
        o["ename"] for c in nb["cells"] for o in c.get("outputs", []) if o["output_type"] == "error"
    ]
    assert not failed, f"{path.name} stores an error: {failed}"
    chatter = [
        o
        for c in nb["cells"]
        for o in c.get("outputs", [])
        if "[Open3D" in "".join(o.get("text", ""))
    ]
    assert not chatter, f"{path.name} stores what a library says of itself: {chatter}"


def test_a_changed_cell_is_seen():
    cell = {
        "cell_type": "code",
        "source": ["1 + 1"],
        "outputs": [{"output_type": "stream", "name": "stdout", "text": ["2"]}],
    }
    nb = {"cells": [cell, {"cell_type": "markdown", "source": ["words"]}], "metadata": {}}
    assert outputs.state(nb) == "stale"
    nb["metadata"]["mvad"] = {"outputs_of": outputs.code_hash(nb)}
    assert outputs.state(nb) == "fresh"
    other = copy.deepcopy(nb)
    other["cells"][1]["source"] = ["other words"]
    assert outputs.state(other) == "fresh"
    other["cells"][0]["source"] = ["(1\n", "  + 1)  # laid out otherwise"]
    assert outputs.state(other) == "fresh"
    other["cells"][0]["source"] = ["1 + 2"]
    assert outputs.state(other) == "stale"
    other["cells"][0]["outputs"] = []
    assert outputs.state(other) == "none"


def test_only_what_a_reader_needs_is_kept():
    def shown(**data):
        return {
            "output_type": "display_data",
            "metadata": {},
            "data": {k.replace("_", "/"): v for k, v in data.items()},
        }

    widget = {outputs.WIDGET: {"model_id": "1"}}
    assert outputs.kept({"output_type": "stream", "name": "stderr", "text": "50%"}) is None
    assert outputs.kept({"output_type": "stream", "name": "stdout", "text": "0.97"}) is not None
    assert outputs.kept(shown(text_plain="VBox()", **widget)) is None
    assert outputs.kept(shown(text_plain="sample 1", image_png="...", **widget)) == shown(
        text_plain="sample 1", image_png="..."
    )
