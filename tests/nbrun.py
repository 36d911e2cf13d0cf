"""Run a notebook inside this very process: a papermill engine on IPython's shell.

A kernel costs seconds for each notebook and hides what runs from coverage; here torch is imported
once for all of them.
With `library="mvad"` an `#| export` cell is not run but imported from the library, so that the
cells below it test what users get.

    run("nbs/core/01_sample.ipynb", parameters={...}, library="mvad", drop=("lesson",))
"""

from __future__ import annotations

import ast
import os
import sys
import tempfile
from pathlib import Path

import nbformat
import papermill
from execnb.shell import CaptureShell
from papermill.engines import Engine, papermill_engines

from mvad.runs.execute import note_error

EXPORTS = {"export", "exporti", "exports"}


def directives(source: str) -> dict[str, str]:
    "The `#| key value` lines that open a cell."
    found = {}
    for line in filter(str.strip, source.splitlines()):
        if not line.startswith("#|"):
            break
        key, _, value = line[2:].strip().partition(" ")
        found[key.rstrip(":")] = value.strip()
    return found


class _Bound(ast.NodeVisitor):
    """Collects the names that a cell binds at its top level, those inside if, with, for and try
    included.
    """

    def __init__(self):
        self.names = []

    def _definition(self, node):
        self.names.append(node.name)

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = _definition

    def _inner_scope(self, node):
        pass

    visit_Lambda = visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = (
        _inner_scope
    )

    def visit_Name(self, node):
        if isinstance(node.ctx, ast.Store):
            self.names.append(node.id)

    def visit_Import(self, node):
        self.names += [(a.asname or a.name.split(".")[0]) for a in node.names]

    def visit_ImportFrom(self, node):
        if node.module != "__future__":
            self.names += [(a.asname or a.name) for a in node.names if a.name != "*"]


def bound_names(source: str) -> list[str]:
    visitor = _Bound()
    visitor.visit(ast.parse(source))
    return list(dict.fromkeys(visitor.names))


def transform(nb, library: str | None = None, drop: tuple[str, ...] = ()):
    """Change the notebook in place:
    cells that must not run are emptied, exported cells become imports.
    """
    module = None
    for cell in nb.cells:
        if cell.cell_type != "code":
            continue
        found, tags = directives(cell.source), set(cell.metadata.get("tags", []))
        module = found.get("default_exp", module)
        target = next((found[k] for k in EXPORTS if found.get(k)), module)
        if found.get("eval", "").lower() == "false" or tags & {"skip-execution", *drop}:
            cell.source = "# not run here"
        elif library and target and EXPORTS & found.keys():
            names = bound_names(cell.source)
            cell.source = (
                f"from {library}.{target} import {', '.join(names)}"
                if names
                else f"import {library}.{target}"
            )
    return nb


class InProcess(Engine):
    "A papermill engine without a kernel."

    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name, library=None, drop=(), cwd=None, **kw):
        transform(nb_man.nb, library, tuple(drop))
        main, here, environment = sys.modules["__main__"], os.getcwd(), dict(os.environ)
        os.chdir(cwd or here)
        shell = CaptureShell(mpl_format="png")
        try:
            for i, cell in enumerate(nb_man.nb.cells):
                if cell.cell_type != "code":
                    continue
                nb_man.cell_start(cell, i)
                cell.outputs = [nbformat.from_dict(o) for o in shell.run(cell.source)]
                if shell.exc:
                    note_error(os.getcwd(), shell.exc)  # as a kernel does
                    return nb_man.cell_exception(cell, i, exception=shell.exc)
                nb_man.cell_complete(cell, i)
        finally:
            os.chdir(here)
            os.environ.clear()
            os.environ.update(
                environment
            )  # what a cell sets ends with its notebook, as in a kernel
            sys.modules["__main__"] = main
            if "matplotlib.pyplot" in sys.modules:
                sys.modules["matplotlib.pyplot"].close("all")
            shell.reset(new_session=False)  # tensors and figures go with the notebook


papermill_engines.register("inprocess", InProcess)


def parameters_of(path: Path) -> set[str]:
    "Names that the notebook's cell tagged `parameters` binds: what papermill may set."
    cells = nbformat.read(path, 4).cells
    return {
        n
        for c in cells
        if "parameters" in c.metadata.get("tags", [])
        for n in bound_names(c.source)
    }


def run(
    path: Path | str,
    parameters: dict | None = None,
    *,
    library: str | None = "mvad",
    drop: tuple[str, ...] = (),
    output=None,
):
    """Run one notebook in an empty folder.

    An error in a cell raises papermill's PapermillExecutionError.
    """
    with tempfile.TemporaryDirectory(prefix="mvad-notebook-") as folder:
        return papermill.execute_notebook(
            str(Path(path).resolve()),
            output and str(output),
            parameters=parameters or {},
            cwd=folder,
            engine_name="inprocess",
            library=library,
            drop=drop,
            progress_bar=False,
        )
