"""The examples in docstrings run, so that they cannot rot.

An example is a `>>>` block, or one line: "Example: `expression`". Where it names a file, data or
weights that are not here, the library's own error ends it and that is well. Where it starts from
something that the reader has (`sample`, `detector`), only its names and arguments are checked.
"""

import ast
import builtins
import contextlib
import doctest
import importlib
import inspect
import io
import pkgutil
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import mvad
from mvad.core.sample import MvadError
from mvad.data.synthetic import make_sample

MODULES = [m.name for m in pkgutil.walk_packages(mvad.__path__, "mvad.") if m.name[-6:] != "modidx"]

# what a reader has at hand where an example uses it without saying where it comes from
AT_HAND = set(
    "F_2d F_3d adam camera centres cloud cloud_to_image data dataset depth detector device "
    "encoders extract folder good good_samples grid home image_to_image images item items jobs "
    "list_file lists losses maps net network other patches photo points prediction predictions "
    "prepared prepared_samples psi_2d psi_3d puck record records result root row rules run "
    "sample_with_gaps samples settings shout shown silhouette step teacher test test_set truth uv "
    "views volume which x z "
    "c1 c2 c3 c4 c5".split()
)
# examples that are only looked at, by the end of their object's name
NOT_RUN = (
    "Layout",  # they write whole trees: tests/test_data_make.py
    "plan.reproduce",  # these three train
    "point_mae.pretrain",
    "train_relief_piece",
    "realiad.image_folders",  # these ask for a folder of a data set
    "realiad.list_folders",
    "realiad_d3.category_folders",
    "realiad_d3.photographs_by_light",
    "sim3d.match_files",
    "sim3d.view_gaps",  # this one for two views
)


def code_of(docstring: str) -> list[doctest.Example]:
    "The examples of a docstring; a comparison in one line has to hold."
    found = doctest.DocTestParser().get_examples(docstring)
    for line in re.findall(r"Example: `([^`]+)`", docstring):
        source = " ".join(line.split())
        compares = isinstance(getattr(ast.parse(source).body[-1], "value", None), ast.Compare)
        found.append(doctest.Example(source, "True" if compares else ""))
    return found


def documented(module: str) -> dict[str, list[doctest.Example]]:
    "The examples of a module by the name of what has them."
    tests = doctest.DocTestFinder(exclude_empty=False).find(importlib.import_module(module), module)
    return {t.name: code_of(t.docstring) for t in tests if code_of(t.docstring)}


SAMPLE = make_sample("puck", "test", "dent", 0, size=200)


class Names(dict):
    "The names that an example of a module may use: its own, the library's, and a sample's."

    public: dict = {"Path": Path, "np": np, "torch": torch}
    public |= {"sample": SAMPLE, "view": SAMPLE.view, "scan": SAMPLE.view}

    def __init__(self, module: str):
        super().__init__(vars(importlib.import_module(module)))
        for m in () if len(Names.public) > 6 else MODULES:
            exported = importlib.import_module(m)
            Names.public.update({k: getattr(exported, k) for k in getattr(exported, "__all__", ())})
        for name, value in Names.public.items():
            self.setdefault(name, value)


def unbound(trees: list[ast.AST], names: dict) -> set[str]:
    "Names that some code reads and nobody has bound."
    nodes = [n for tree in trees for n in ast.walk(tree)]
    used = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    bound = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    bound |= {n.arg for n in nodes if isinstance(n, ast.arg)}
    bound |= {n.name for n in nodes if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
    bound |= {a.asname or a.name for n in nodes if isinstance(n, ast.ImportFrom) for a in n.names}
    bound |= {a.asname or a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
    return used - bound - set(names) - set(dir(builtins))


def check_arguments(tree: ast.AST, names: dict) -> None:
    "Each call of something that can be looked up has arguments that it takes."
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        thing = names.get(node.func.id) if isinstance(node.func, ast.Name) else None
        if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
            owner = names.get(node.func.value.id)
            thing = getattr(owner, node.func.attr) if owner is not None else None
        starred = any(isinstance(a, ast.Starred) for a in node.args)
        if thing is None or starred or any(k.arg is None for k in node.keywords):
            continue
        with contextlib.suppress(ValueError):  # built-in functions have no signature
            signature = inspect.signature(thing)
            signature.bind(*node.args, **{k.arg: k.value for k in node.keywords})


def lacks_something(e: Exception) -> bool:
    "Whether the library says that a file or weights are not there."
    if isinstance(e, MvadError):
        return e.file is not None or "needs weights" in str(e) or "there is no" in str(e)
    return isinstance(e, FileNotFoundError)


class Checker(doctest.OutputChecker):
    "An example without a result only has to run."

    def check_output(self, want, got, optionflags):
        return not want or super().check_output(want, got, optionflags)


def run(examples: list[doctest.Example], names: dict) -> None:
    "Run examples one after the other; what goes wrong is raised."
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    runner = doctest.DebugRunner(Checker(), verbose=False, optionflags=flags)
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            runner.run(doctest.DocTest(examples, names, "example", None, 0, None))
        except doctest.UnexpectedException as e:
            raise e.exc_info[1] from None
        except doctest.DocTestFailure as e:
            raise AssertionError(f"{e.example.source.strip()} gives {e.got.strip()}") from None


@pytest.mark.parametrize("module", MODULES)
def test_examples(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    faults = {}
    for name, examples in documented(module).items():
        names = Names(module)
        try:
            trees = [ast.parse(example.source) for example in examples]
            for tree in trees:
                check_arguments(tree, names)
            lost = unbound(trees, names)
            assert lost <= AT_HAND, f"unknown names {lost - AT_HAND}"
            if not lost and not name.endswith(NOT_RUN):
                run(examples, names)
        except Exception as e:
            if not lacks_something(e):
                faults[name] = f"{type(e).__name__}: {e}"
    assert not faults, "\n".join(f"{name}: {why}" for name, why in faults.items())


def test_a_rotten_example_would_be_seen():
    names = Names("mvad.core.sample")
    run(code_of("Example: `1 + 1 == 2`"), names)
    for wrong in ("Example: `1 + 1 == 3`", ">>> 1 + 1\n3\n"):
        with pytest.raises(AssertionError):
            run(code_of(wrong), names)
    assert unbound([ast.parse("make_no_sample(detector)")], names) == {"make_no_sample", "detector"}
    with pytest.raises(TypeError):
        check_arguments(ast.parse("load_dataset(nothing=1)"), names)
