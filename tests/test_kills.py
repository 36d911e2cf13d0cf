"""Killed, starved or disturbed, a reproduction goes on:
one more call completes it, and its records equal those that it leaves when nothing happens.

The runs are toys (toy_runs.py); the real CFM is killed in test_cli.py, a training in
test_training_faults.py, a node and a worker of a cluster in test_cluster.py.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from toy_runs import (
    kernels_in,
    records,
    release,
    reproduce,
    start,
    start_gated,
    training,
    undisturbed,
    until,
    worker_of,
)


def completes(toy: Path, *categories: str, more: tuple = (), seeds: tuple = (0,)) -> dict[str, int]:
    """One more call completes, with the records of undisturbed runs.

    How many steps each category did not do again.
    """
    release(toy)
    done = reproduce(toy, *categories, more=(*more, "--seed", *seeds))
    assert done.returncode == 0, done.stderr
    assert records(toy / "out") == undisturbed(toy, *categories, seeds=seeds) and not list(
        (toy / "out/runs").glob("*.part")
    )
    found = [json.loads(p.read_text()) for p in (toy / "out").rglob("*.record.json")]
    return {r["run"]["category"]: r["measured"]["resumed"] for r in found}


@pytest.mark.parametrize("more", [(), ("plate", "--jobs", "2")], ids=["sequential", "processes"])
def test_the_runner_is_killed(toy, more):
    child = start_gated(toy, "out", *more)
    child.kill()
    child.communicate()
    assert not list((toy / "out/runs").glob("cfm-ours-gated-*[!t]/*.record.json")), (
        "a killed run looks finished"
    )
    resumed = completes(
        toy, "gated", *more[:1], more=more[1:]
    )  # at once: what the kill left behind may still be at work
    assert resumed["gated"] >= 8, "it began anew instead of going on"
    until(lambda: not kernels_in(toy / "out/runs"), 15)


def test_a_worker_and_a_kernel_are_killed(toy):
    child = start_gated(toy, "out", "--seed", 0, 1, "--jobs", 2, runs=2)
    one, other = training(toy / "out")
    worker_of(one).kill()
    worker_of(other).children()[0].kill()
    _, err = child.communicate(timeout=300)
    assert (
        child.returncode == 1
        and "ended with code -9" in err
        and "it was killed, perhaps because memory ran out" in err
        and "Traceback" not in err
    ), err
    assert completes(toy, "gated", seeds=(0, 1))["gated"] >= 8


def test_a_second_runner_is_refused_and_the_first_ends_by_its_limit(toy):
    first = start(
        toy, "out", "--category", "gated", "--limit", 0.05
    )  # 3 s; this run would wait for minutes
    until(lambda: list(toy.glob("out/runs/*.part")) or first.poll() is not None, 300)
    second = reproduce(toy, "gated")
    assert second.returncode == 2 and "another runner works in this folder" in second.stderr
    _, err = first.communicate(timeout=300)
    assert (
        first.returncode == 1
        and "the limit of 0.05 minutes was reached" in err
        and "Traceback" not in err
    ), err
    completes(toy, "gated")
    log = next((toy / "out/runs").glob("*/run.log")).read_text()
    assert (
        log.count("begins: cfm ours, gated, seed 0") == 2
        and "failed after" in log
        and " done after " in log.splitlines()[-1]
    )


def test_what_failed_by_itself_waits_to_be_asked_for(toy):
    def attempts():
        return (
            next((toy / "out/runs").glob("cfm-ours-broken-*.part/run.log"))
            .read_text()
            .count("begins")
        )

    assert reproduce(toy, "broken").returncode == 1 and attempts() == 1
    again = reproduce(toy, "broken", "weightless")
    assert (
        again.returncode == 1
        and attempts() == 1
        and "the lamp broke" in again.stderr
        and "--retry-failed" in again.stderr
    )
    assert reproduce(toy, "broken", more=("--retry-failed",)).returncode == 1 and attempts() == 2


@pytest.fixture
def small_disk(toy):
    "A disk of a few kilobytes at `out`; call it with a size to make it larger."
    (toy / "out").mkdir()

    def mount(*words):
        return subprocess.run(["mount", *words, str(toy / "out")], capture_output=True, text=True)

    if (
        sys.platform != "linux"
        or (done := mount("-t", "tmpfs", "-o", "size=24k", "none")).returncode
    ):
        pytest.skip(f"may not mount: {done.stderr.strip()}")
    try:
        yield lambda size: mount("-o", f"remount,size={size}")
    finally:
        subprocess.run(["umount", "-l", str(toy / "out")])


def test_the_disk_is_full(toy, small_disk):
    full = reproduce(toy, "plate", "ring")
    assert (
        full.returncode in (1, 2)
        and "No space left on device" in full.stderr
        and "Traceback" not in full.stderr
    ), full.stderr
    assert not records(toy / "out") or not list((toy / "out").rglob("report.html"))
    assert small_disk("60m").returncode == 0
    completes(toy, "plate", "ring")
