"""What an error tells people to type exists: every option and command that a message names."""

import ast
import re

import numpy as np
import pytest

import mvad
from mvad.cli.main import app, main
from mvad.data.base import write_png, write_xyz_tiff

ROOT = mvad.__path__[0]
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*[a-z0-9]")
COMMAND = re.compile(r"`mvad ([^`]+)`")
# of other programs: apt-get, hf, ray, the kernel, and nvidia-smi
OTHERS = {"--no-install-recommends", "--local-dir", "--head", "--log-level", "--help"}
OTHERS |= {"--query-gpu"}


def commands(some, words=()):
    """{words of a command: its options} of an app and all below it."""
    found = {}
    for name in some:
        if name.startswith("-"):
            continue
        below = some[name]
        if inner := commands(below, (*words, name)):
            found |= inner
            continue
        arguments = below.assemble_argument_collection(parse_docstring=False)
        found[" ".join((*words, name))] = {n for a in arguments for n in a.names}
    return found


COMMANDS = commands(app)


def told_strings():
    """(file, text) of every string of the library that is no docstring; {} where values go."""
    from pathlib import Path

    for path in sorted(Path(ROOT).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        docs = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
        }
        inner = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                inner |= {id(part) for part in node.values}
                parts = [getattr(part, "value", "{}") for part in node.values]
                yield path.name, "".join(p if isinstance(p, str) else "{}" for p in parts)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                if id(node) not in docs | inner:
                    yield path.name, node.value


STRINGS = list(told_strings())


def test_every_option_that_the_library_names_exists():
    known = set().union(*COMMANDS.values()) | OTHERS
    for _, text in STRINGS:  # options of `python -m`, declared by argparse
        known |= {text} if re.fullmatch(OPTION, text) else set()
    named = [(file, option) for file, text in STRINGS for option in OPTION.findall(text)]
    assert len(named) > 60
    assert [each for each in named if each[1] not in known] == []


def test_every_command_that_the_library_names_exists():
    wrong, seen = [], 0
    for file, text in STRINGS:
        for words in COMMAND.findall(text):
            seen += 1
            plain = words.split(" -")[0].split()
            fits = [c for c in COMMANDS if plain[: len(c.split())] == c.split()]
            group = any(c.startswith(" ".join(plain)) for c in COMMANDS)
            options = set(OPTION.findall(words)) - OTHERS
            if not fits and not group and "{}" not in plain[:1] and words != "--help":
                wrong.append((file, words))
            elif fits and not options <= COMMANDS[max(fits, key=len)]:
                wrong.append((file, words))
    assert seen > 10 and wrong == []


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Photographs, clouds in millimetres, a layout without its table, a checkpoint."""
    folder = tmp_path_factory.mktemp("files")
    rows, columns = np.mgrid[:64, :64]
    rgb = np.full((3, 64, 64), 0.5) + 0.1 * (np.hypot(rows - 32, columns - 32) < 20)
    cloud = np.stack([columns / 2000, rows / 2000, np.full((64, 64), 0.4)]).astype(np.float32)
    for i in range(2):
        write_png(folder / f"rgb/{i}.png", rgb + 0.01 * i)
        write_xyz_tiff(folder / f"mm/{i}.tiff", 1000 * cloud)
        write_xyz_tiff(folder / f"flat/{i}.tiff", cloud)
        write_png(folder / f"tree/part/train/ok/{i}.png", rgb)
    (folder / "empty").mkdir()
    words = f"train memory_bank --rgb {folder}/rgb --scale smoke --out {folder}/bank.safetensors"
    assert main(words.split()) == 0
    return folder


@pytest.mark.parametrize(
    "words, says",
    [
        ("train cfm --rgb rgb --xyz mm --scale smoke", "0.tiff"),
        ("train cfm --rgb rgb --xyz flat --remove-plane --scale smoke", "0.tiff"),
        ("train cfm --rgb rgb --scale smoke", "needs points"),
        ("train modmap --rgb rgb --xyz flat", "calibrated views"),
        ("train destseg --rgb rgb --xyz flat --scale smoke", "looks at images only"),
        ("train memory_bank --rgb empty", "empty"),
        ("train memory_bank --rgb rgb --variant bft", "did you mean 'btf'"),
        ("train memory_bank --rgb rgb --image-size 1000000000", "at most"),
        ("train memory_bank --rgb rgb --device gpu", "found gpu"),
        ("train memory_bank --rgb rgb --weights dino.pth", "NAME=FILE"),
        ("train memory_bank --rgb rgb --root tree", "one of them"),
        ("train memory_bank --root tree --dataset mvtec", "good"),
        ("predict bank.safetensors --device gpu --rgb rgb", "found gpu"),
        ("predict bank.safetensors", "nothing to score"),
        ("predict bank.safetensors --rgb rgb --out rgb", "among the images"),
        ("predict rgb/0.png --rgb rgb", "0.png"),
        ("predict bank.safetensors --root tree --dataset mvtec", "tree"),
        ("data check mvtec --root empty", "empty"),
        ("data convert mvtec3d --root empty --out o", "empty"),
        ("data convert depth --root rgb --out o", "camera"),
        ("reproduce cfm/6 --root empty", "empty"),
        ("reproduce cfm/6 --seed -1 --scale smoke", "seed"),
        ("data make mvtec3d --out o --jobs -3", "Must be >= 1"),
        ("data convert mvtec3d --root flat --out o --seed -1", "Must be >= 0"),
        ("data render mvtec3d --root flat --out o --size 1000000", "size is too large"),
        ("data render mvtec3d --root flat --out o --views 9999", "views is too large"),
    ],
)
def test_a_message_names_options_of_its_own_command(words, says, files, monkeypatch, capfd):
    monkeypatch.chdir(files)
    assert main(words.split()) in (1, 2)
    out, err = capfd.readouterr()
    told = err.strip().splitlines()[-1] if err.strip() else out
    assert says in told + out, told
    command = max((c for c in COMMANDS if words.startswith(c)), key=len)
    for named in OPTION.findall(told.split("`mvad")[0]):
        assert named in COMMANDS[command] | OTHERS, f"{command} has no {named}: {told}"
    assert "Traceback" not in err and "Error:" not in told
