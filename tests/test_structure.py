"""The promises that a reader relies on:
one shape for all notebooks, imports that run one way, no unsafe reading.
"""

import ast
import json
import re
from pathlib import Path

import nbrun
import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = [
    p
    for p in sorted((ROOT / "nbs").rglob("*.ipynb"))
    if not any(s.startswith(("_", ".")) for s in p.relative_to(ROOT).parts)
]
# a paper's lesson is NN_name, its companion NNx_name
LESSONS = [p for p in NOTEBOOKS if p.parent.name == "papers" and re.match(r"\d\d_", p.name)]
COMPANIONS = [p for p in NOTEBOOKS if p.parent.name == "papers" and p not in LESSONS]
MODULES = [
    p for p in sorted((ROOT / "mvad").rglob("*.py")) if p.name not in ("__init__.py", "_modidx.py")
]

# which room may import which; a room may always import from itself, papers excepted
MAY_IMPORT = {
    "course": set(),
    "core": set(),
    "encoders": {"core"},
    "data": {"core"},
    "baselines": {"encoders", "core"},
    "papers": {"baselines", "encoders", "core"},
    "runs": {"papers", "baselines", "encoders", "data", "core"},
    "reproduce": {"runs", "papers", "baselines", "encoders", "data", "core"},
    "cli": {"reproduce", "runs", "papers", "baselines", "encoders", "data", "core"},
}

# the sections of a paper notebook, in order, so that who knows one knows them all: a word or two
# that each heading must hold
SECTIONS = [
    "parameters",
    "problem in one picture",
    "theory",
    "simple version",
    "claims",
    "laptop training",
    "gpu training",
    "table",
    "ablations",
    "look",
    "released code",
    "summary",
]


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def cells_of(path: Path) -> list[dict]:
    return [
        {**c, "source": "".join(c["source"])}
        for c in json.loads(path.read_text(encoding="utf-8"))["cells"]
    ]


def headings(path: Path, level: str = "## ") -> list[str]:
    "Headings of one level without their numbers, lower case."
    text = "\n".join(
        re.sub(r"```.*?```", "", c["source"], flags=re.S)
        for c in cells_of(path)
        if c["cell_type"] == "markdown"
    )
    return [
        re.sub(r"^[\d.)\s·-]+", "", line[len(level) :]).strip().lower()
        for line in text.splitlines()
        if line.startswith(level)
    ]


SCREEN = 70  # lines of a cell: a class at most


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_notebook_is_readable(path):
    cells = cells_of(path)
    assert path.stat().st_size < 2_000_000, (
        f"{name(path)} has {path.stat().st_size // 1000} kB: smaller or fewer stored outputs"
    )
    sizes = [len(c["source"].splitlines()) for c in cells if c["cell_type"] == "code"]
    assert max(sizes, default=0) <= SCREEN, (
        f"{name(path)}: a cell of {max(sizes)} lines, {SCREEN} are allowed"
    )
    assert len(headings(path, "# ")) == 1, (
        f"{name(path)}: one title (# ...), found {headings(path, '# ')}"
    )
    assert not [c for c in cells if c["source"].startswith("%pip")], (
        f"{name(path)}: installs something"
    )


@pytest.mark.parametrize(
    "path",
    [p for p in NOTEBOOKS if p.name[0].isdigit() and p.parent.name not in ("benchmarks", "notes")],
    ids=name,
)
def test_notebook_exports_to_the_module_of_its_name(path):
    target = [
        d["default_exp"]
        for c in cells_of(path)
        if c["cell_type"] == "code" and "default_exp" in (d := nbrun.directives(c["source"]))
    ]
    nothing = not target and path in COMPANIONS  # a companion may have nothing to export
    assert nothing or target == [f"{path.parent.name}.{path.stem.partition('_')[2]}"]
    stars = [
        c["source"]
        for c in cells_of(path)
        if re.search(r"^from mvad\S* import \*", c["source"], re.M)
    ]
    assert not stars, f"{name(path)}: names what it imports, no star"


@pytest.mark.parametrize("path", LESSONS, ids=name)
def test_paper_notebook_follows_the_template(path):
    tagged = [c for c in cells_of(path) if "parameters" in c["metadata"].get("tags", [])]
    assert len(tagged) == 1, (
        f"{name(path)}: {len(tagged)} cells tagged `parameters`, expected one (papermill fills it)"
    )
    assert not nbrun.EXPORTS & nbrun.directives(tagged[0]["source"]).keys(), (
        f"{name(path)}: the parameters cell must not be exported"
    )
    found = iter(headings(path))
    missing = [s for s in SECTIONS if not any(s in heading for heading in found)]
    assert not missing, (
        f"{name(path)}: sections missing or out of order, from `{missing[0]}` on; found"
        f" {headings(path)}"
    )


def imports_of(path: Path) -> set[str]:
    "Modules of this library that a module imports anywhere, as dotted names."
    package = ["mvad", *path.relative_to(ROOT / "mvad").parts[:-1]]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            found |= {stem, *(f"{stem}.{a.name}" for a in node.names)}
    return {f for f in found if f.startswith("mvad.")}


def test_imports_run_one_way():
    wrong = []
    for path in MODULES:
        room, module = path.parent.name, path.stem
        for target in imports_of(path):
            other = target.split(".")[1]
            if other not in MAY_IMPORT:
                continue
            paper = (target.split(".") + [module])[2]
            own = module == paper or module.startswith(f"{paper}_")  # a companion and its lesson
            if (room == other == "papers" and not own) or (
                other != room and other not in MAY_IMPORT[room]
            ):
                wrong.append(f"{name(path)} imports {target}")
    assert not wrong, wrong


def test_no_import_circle():
    "Modules that import each other, also inside functions, cannot be read one after the other."
    from graphlib import CycleError, TopologicalSorter

    graph = {}
    for path in MODULES:
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        graph[module] = imports_of(path) - {module}
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as e:
        raise AssertionError(" -> ".join(e.args[1])) from None


# what a lesson may use beside what its room's modules may: exercises, samples, runs, tables
LESSONS_MAY = {
    "core": {"course", "data"},
    "encoders": {"course", "data", "baselines", "papers"},
    "baselines": {"course", "data", "runs"},
    "papers": {"course", "data", "runs", "reproduce"},
}


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_lessons_import_one_way(room):
    allowed = {room} | MAY_IMPORT[room] | LESSONS_MAY.get(room, set())
    wrong = []
    for path in (p for p in NOTEBOOKS if p.parent.name == room):
        code = "\n".join(c["source"] for c in cells_of(path) if c["cell_type"] == "code")
        used = set(re.findall(r"^\s*(?:from|import) mvad\.(\w+)", code, re.M))
        wrong += [f"{name(path)} uses {other}" for other in used & set(MAY_IMPORT) - allowed]
    assert not wrong, wrong


PICKLES = {
    "pickle",
    "dill",
    "cloudpickle",
    "shelve",
    "marshal",
}  # naming pickle's error is all that is allowed


def unsafe_calls(tree: ast.AST):
    "Calls and imports that would let a file run code, by line."
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and {a.name for a in node.names} & PICKLES:
            yield node.lineno, "imports pickle or its like"
        if (
            isinstance(node, ast.ImportFrom)
            and node.module in PICKLES
            and {a.name for a in node.names} - {"UnpicklingError"}
        ):
            yield node.lineno, f"imports from {node.module}"
        if not isinstance(node, ast.Call):
            continue
        call, keywords = (
            ast.unparse(node.func),
            {k.arg: ast.unparse(k.value) for k in node.keywords},
        )
        if call == "torch.load" and keywords.get("weights_only") != "True":
            yield node.lineno, "torch.load without weights_only=True"
        if call.endswith("yaml.load") or call.endswith(("read_pickle", "joblib.load")):
            yield node.lineno, call
        if call.endswith("load") and keywords.get("allow_pickle") == "True":
            yield node.lineno, "allow_pickle=True"
        if call.endswith("extractall") and "filter" not in keywords:
            yield node.lineno, "an archive may write outside its folder"
        if call in ("eval", "exec"):
            yield node.lineno, call


def test_library_reads_safely():
    wrong = {
        name(p): found
        for p in MODULES
        if (found := list(unsafe_calls(ast.parse(p.read_text(encoding="utf-8")))))
    }
    assert not wrong, wrong


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "yaml.load(f)",
        "np.load(f, allow_pickle=True)",
        "tar.extractall(out)",
        "eval(x)",
    ],
)
def test_unsafe_reading_would_be_seen(source):
    assert list(unsafe_calls(ast.parse(source)))
