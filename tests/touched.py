"""Run the notebooks that changed since a commit:
python tests/touched.py [COMMIT] (default: HEAD, which means edits).
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbrun
from test_notebooks import smoke

ROOT = Path(__file__).resolve().parent.parent


def touched(since: str) -> list[Path]:
    "Numbered notebooks that differ from a commit, and new ones."
    asked = [
        ["git", "diff", "--name-only", "--diff-filter=d", since, "--", "nbs"],
        ["git", "ls-files", "--others", "--exclude-standard", "--", "nbs"],
    ]
    names = set()
    for command in asked:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        names |= set(done.stdout.split())
    return [ROOT / name for name in sorted(names) if Path(name).name[:1].isdigit()]


def main(words: list[str]) -> int:
    for path in touched(words[0] if words else "HEAD"):
        start = time.time()
        # of a paper what a run needs: its lessons are run by `make test`
        drop = ("lesson",) if path.parent.name in ("papers", "baselines") else ()
        with tempfile.TemporaryDirectory() as out:
            nbrun.run(path, smoke(path, Path(out)), drop=drop)
        print(f"{path.relative_to(ROOT)}: {time.time() - start:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
