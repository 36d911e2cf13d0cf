"""Stored outputs: run notebooks at laptop scale and keep what they show, with a hash of the code
that showed it.

python tests/outputs.py [NOTEBOOK...]        run and store (all notebooks without arguments; `make
outputs`)
python tests/outputs.py --stale              only name the notebooks whose code changed since
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mvad.runs.run import plain_code

LIMIT = 2_000_000  # bytes of a notebook with its outputs
WIDGET = "application/vnd.jupyter.widget-view+json"  # shows nothing without its kernel


def notebooks() -> list[Path]:
    found = (
        p
        for p in sorted((ROOT / "nbs").rglob("*.ipynb"))
        if not any(s.startswith(("_", ".")) for s in p.relative_to(ROOT).parts)
    )
    return list(found)


def plain(source: str) -> str:
    "A cell's code without layout, comments and docstrings; a line for the shell stays as it is."
    lines = source.splitlines()
    magics = [line for line in lines if line.startswith(("%", "!"))]
    return "\n".join([*magics, plain_code("\n".join(line for line in lines if line not in magics))])


def code_hash(nb: dict) -> str:
    "Of the code cells' syntax, in order: what the stored outputs depend on."
    code = ["".join(c["source"]) for c in nb["cells"] if c["cell_type"] == "code"]
    return hashlib.sha256(json.dumps([plain(c) for c in code]).encode()).hexdigest()[:16]


def state(nb: dict) -> str:
    "`none` (nothing stored), `fresh` or `stale` (the code changed after the outputs were stored)."
    if not any(c.get("outputs") for c in nb["cells"]):
        return "none"
    return "fresh" if nb["metadata"].get("mvad", {}).get("outputs_of") == code_hash(nb) else "stale"


def kept(output: dict) -> dict | None:
    """What a reader needs of one output:
    no progress bars, no warnings; of a widget its still picture, if it has one.
    """
    if output["output_type"] == "stream":
        return output if output["name"] == "stdout" else None
    if WIDGET not in output.get("data", {}):
        return output
    data = {k: v for k, v in output["data"].items() if k != WIDGET}
    return {**output, "data": data} if data.keys() - {"text/plain"} else None


def store(path: Path):
    """Run a notebook in a kernel of its own, in an empty folder, and write its outputs into it in
    one step.
    """
    import papermill

    nb = json.loads(path.read_text(encoding="utf-8"))
    os.environ.update(PYTHONPATH=str(ROOT), IN_TEST="1", PLOTLY_RENDERER="plotly_mimetype")
    with tempfile.TemporaryDirectory(prefix="mvad-outputs-") as folder:
        ran = papermill.execute_notebook(
            str(path),
            str(Path(folder) / path.name),
            cwd=folder,
            progress_bar=True,
            store_widget_state=False,
        )
        outputs = {
            c["id"]: [k for o in c.get("outputs", []) if (k := kept(o))]
            for c in ran.cells
            if c["cell_type"] == "code"
        }
        for cell in nb["cells"]:
            if cell["cell_type"] == "code":
                cell["outputs"] = outputs.get(cell["id"], [])
        nb["metadata"]["mvad"] = {"outputs_of": code_hash(nb)}
        new = path.with_name(f"_{path.name}")
        new.write_text(
            json.dumps(nb, indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8"
        )
    clean(new)
    if (size := new.stat().st_size) >= LIMIT:
        new.unlink()
        raise SystemExit(
            f"{path}: its outputs would make it {size // 1000} kB, {LIMIT // 1000} kB are allowed"
        )
    os.replace(new, path)


def clean(path: Path):
    env = {k: v for k, v in os.environ.items() if k != "IN_TEST"}
    subprocess.run(
        [sys.executable, "-c", f"from nbdev.clean import nbdev_clean; nbdev_clean({str(path)!r})"],
        cwd=ROOT,
        env=env,
        check=True,
    )


def main(args: list[str]) -> int:
    if args == ["--stale"]:
        stale = [
            p for p in notebooks() if state(json.loads(p.read_text(encoding="utf-8"))) == "stale"
        ]
        print(*(f"stale: {p.relative_to(ROOT)}" for p in stale), sep="\n")
        return bool(stale)
    for path in [Path(a).resolve() for a in args] or notebooks():
        start = time.time()
        print(path.relative_to(ROOT), flush=True)
        store(path)
        print(f"  {time.time() - start:.0f} s, {path.stat().st_size // 1000} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
