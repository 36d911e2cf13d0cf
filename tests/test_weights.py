"""Weights: carried by hand, fetched from a server, found by every run without an option."""

import contextlib
import hashlib
import http.server
import os
import shutil
import threading
from pathlib import Path
from unittest import mock

import pytest
import timm
import torch
from safetensors.torch import save_file

from mvad.cli.main import main
from mvad.core.sample import MvadError, refused
from mvad.encoders.features import TimmEncoder, embedded_weights
from mvad.encoders.pyramid import Teacher
from mvad.encoders.weight_files import TimmWeights, check_file, get_weights, weight_entry


@pytest.fixture(scope="module")
def carried(tmp_path_factory):
    """The same random ResNet18 as torch and as safetensors save it."""
    folder = tmp_path_factory.mktemp("carried")
    torch.manual_seed(0)
    state = timm.create_model("resnet18", pretrained=False).state_dict()
    torch.save(state, folder / "r18.pth")
    save_file(state, folder / "r18.safetensors")
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MVAD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MVAD_WEIGHTS", "{}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *words, **more: None)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_carried_file_is_found_by_all_that_comes_after(carried, suffix, capsys):
    assert main(["weights", "check", "resnet18"]) == 1
    assert main(["weights", "put", str(carried / f"r18.{suffix}")]) == 0  # recognised
    placed = Path(capsys.readouterr().out.splitlines()[-1])
    assert main(["weights", "check", "resnet18"]) == 0
    for name in ("resnet18", "resnet18.tv_in1k"):
        encoder = TimmEncoder(name, layers=(1,), weights=None)
        assert encoder.file == placed and "random" not in encoder.name
    teacher = Teacher("resnet18")
    state = torch.load(carried / "r18.pth", weights_only=True)
    assert torch.equal(teacher.network.conv1.weight, state["conv1.weight"])


def test_a_named_file_comes_before_a_placed_one(carried, capsys):
    assert main(["weights", "put", str(carried / "r18.pth"), "resnet18"]) == 0
    from mvad.encoders.features import give_weights

    give_weights([f"resnet18={carried}/r18.safetensors"])
    assert TimmEncoder("resnet18").file == carried / "r18.safetensors"


def test_without_the_file_all_commands_say_the_same_and_how_to_get_it(capsys):
    with pytest.raises(MvadError) as e:
        TimmEncoder("resnet18")
    told = str(e.value)
    for part in ("needs weights resnet18.tv_in1k", "weights get resnet18", "put FILE resnet18"):
        assert part in told
    assert main(["weights", "get", "resnet18"]) == 2
    told = capsys.readouterr().err
    assert "HF_HUB_OFFLINE is set" in told and "huggingface.co/timm/resnet18" in told
    assert "model.safetensors" in told and str(weight_entry("resnet18").placed().parent) in told
    assert told.count("\n") == 1


def test_list_names_each_network_its_tables_and_where_it_is(carried, capsys):
    assert main(["weights", "put", str(carried / "r18.pth")]) == 0
    placed = capsys.readouterr().out.strip()
    assert main(["weights", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    row = next(i for i, line in enumerate(lines) if line.startswith("resnet18 "))
    assert "47 MB" in lines[row] and "bsd-3-clause" in lines[row] and placed in lines[row]
    assert "idif/1-3" in lines[row + 1]


def test_real_weights_are_known_by_their_hash_and_their_tensors(tmp_path):
    lite0 = TimmWeights("lite0", "EfficientNet-Lite0", model="tf_efficientnet_lite0.in1k")
    real = embedded_weights()  # efficientnet-lite0-57934424.pth, of a package
    check_file(lite0, real)
    copy = Path(shutil.copy(real, tmp_path / real.name))
    damaged = bytearray(copy.read_bytes())
    damaged[-5000] ^= 1
    copy.write_bytes(damaged)
    assert "found" in (why := refused(check_file, lite0, copy)) and "57934424" in why
    renamed = Path(shutil.copy(real, tmp_path / "other.pth"))
    why = refused(check_file, weight_entry("resnet18"), renamed)
    assert "do not fit the network" in why and "missing" in why


class Hub(http.server.BaseHTTPRequestHandler):
    """A hub with one file, whose hash it tells as the real one does."""

    content, sha256, hangs_after = b"", "", 1 << 40

    def _head(self, start=0):
        there = self.path.endswith("/model.safetensors")
        self.send_response((206 if start else 200) if there else 404)
        self.send_header("X-Linked-Etag", f'"{self.sha256}"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("Content-Length", str(len(self.content) - start if there else 0))
        self.end_headers()
        return there

    def do_HEAD(self):
        self._head()

    def do_GET(self):
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        if self._head(start):
            self.wfile.write(self.content[start : start + self.hangs_after])

    def log_message(self, *words):
        pass


@pytest.fixture
def hub(carried, monkeypatch):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    Hub.content = (carried / "r18.safetensors").read_bytes()
    Hub.sha256 = hashlib.sha256(Hub.content).hexdigest()
    Hub.hangs_after = 1 << 40
    yield Hub
    server.shutdown()
    server.server_close()


def test_get_goes_on_after_a_cut_and_checks_the_hubs_hash(hub, capsys):
    hub.hangs_after = len(hub.content) // 2 + 1
    assert main(["weights", "get", "resnet18"]) == 0
    placed = weight_entry("resnet18").find()
    assert placed.read_bytes() == hub.content and not list(placed.parent.glob("*.new*"))
    noted = placed.with_name(f"{placed.name}.sha256").read_text().split()
    assert noted == [hub.sha256, placed.name]
    assert TimmEncoder("resnet18").file == placed


def test_a_cut_that_stays_leaves_what_came_and_the_next_get_takes_it_up(hub, capsys):
    hub.hangs_after = 0
    with mock.patch("time.sleep"):
        assert main(["weights", "get", "resnet18"]) == 2
    part = weight_entry("resnet18").placed().with_suffix(".new.safetensors")
    part.write_bytes(hub.content[: 1 << 20])
    hub.hangs_after = 1 << 40
    assert get_weights("resnet18", progress=False).read_bytes() == hub.content


def test_other_bytes_than_the_hub_names_are_refused(hub, capsys):
    hub.sha256 = "0" * 64
    assert main(["weights", "get", "resnet18"]) == 2
    assert "not the one that was published" in capsys.readouterr().err
    assert weight_entry("resnet18").find() is None
    assert not list(weight_entry("resnet18").placed().parent.glob("*.new*"))


def test_a_short_name_is_good_for_the_option_of_every_command(carried, monkeypatch, capsys):
    for words in (
        "reproduce idif/1 --scale smoke --plan --weights resnet18={}/r18.pth",
        "train memory_bank --rgb /nowhere --weights resnet18={}/r18.pth",
        "predict /nowhere --rgb /nowhere --weights resnet18={}/r18.pth",
    ):
        monkeypatch.setenv("MVAD_WEIGHTS", "{}")
        with contextlib.suppress(SystemExit):
            main(words.format(carried).split())
        assert "resnet18.tv_in1k" in os.environ["MVAD_WEIGHTS"], words
