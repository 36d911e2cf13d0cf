"""Build script. Names, versions and dependencies are read from settings.ini, nothing is stated
twice.
"""

from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent
ini = ConfigParser(delimiters=["="])
ini.read(HERE / "settings.ini", encoding="utf-8")
cfg = ini["DEFAULT"]


def words(key: str) -> list[str]:
    return cfg.get(key, "").split()


def files_of(folder: str, pattern: str = "*") -> list[str]:
    """Files below a folder, relative to it.

    What starts with `_` or `.` is private or left over and stays behind.
    """
    found = (
        p.relative_to(HERE / folder) for p in sorted((HERE / folder).rglob(pattern)) if p.is_file()
    )
    return [p.as_posix() for p in found if not any(part.startswith(("_", ".")) for part in p.parts)]


# Notebooks and recipes stand at the top level of a checkout and travel inside the package in a
# wheel.
travelling = {"mvad._nbs": ("nbs", "*.ipynb"), "mvad._recipes": ("data_recipes", "*")}
travelling = {
    name: (folder, files_of(folder, pattern))
    for name, (folder, pattern) in travelling.items()
    if (HERE / folder).is_dir()
}
library_data = [
    f for f in files_of("mvad") if not f.endswith((".py", ".pyc"))
]  # the papers' values, small weights

setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=(
        (HERE / "README.md").read_text(encoding="utf-8") if (HERE / "README.md").exists() else ""
    ),
    long_description_content_type="text/markdown",
    author=cfg["author"],
    author_email=cfg["author_email"],
    url=cfg["git_url"],
    keywords=words("keywords"),
    license="Apache-2.0",
    python_requires=">=" + cfg["min_python"],
    packages=find_packages(include=["mvad", "mvad.*"]) + list(travelling),
    package_dir={name: folder for name, (folder, _) in travelling.items()},
    package_data={"mvad": library_data, **{name: files for name, (_, files) in travelling.items()}},
    zip_safe=False,
    install_requires=words("requirements"),
    extras_require={
        "notebooks": words("notebooks_requirements"),
        "depth": words("depth_requirements"),
        "train": words("train_requirements"),
        **{
            extra: words("notebooks_requirements") + words(f"{extra}_requirements")
            for extra in ("ray", "slurm")
        },
        "dev": [
            w
            for extra in ("notebooks", "depth", "train", "ray", "slurm", "dev")
            for w in words(f"{extra}_requirements")
        ],
    },
    entry_points={
        "console_scripts": words("console_scripts"),
        "nbdev": [f"{cfg['lib_name']}={cfg['lib_path']}._modidx:d"],
    },
)
