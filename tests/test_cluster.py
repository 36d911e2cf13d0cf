"""Runs on a cluster: two Ray nodes on this machine, one of which dies.

Slurm's jobs as processes of this machine.

MVAD_LONG=1 pytest tests/test_cluster.py -s       the twelve-run sweep, on one node and on two, and
how much faster two are
"""

import json
import os
import signal
import time
from importlib.util import find_spec

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

LONG = bool(os.environ.get("MVAD_LONG"))
SEEDS = 12 if LONG else 3
# a node that is gone is noticed after three seconds, not after fifteen
NOTICES = dict(
    health_check_initial_delay_ms=1000,
    health_check_period_ms=1000,
    health_check_failure_threshold=3,
)
needs_ray = pytest.mark.skipif(not find_spec("ray"), reason="needs ray")
needs_submitit = pytest.mark.skipif(not find_spec("submitit"), reason="needs submitit")


@pytest.fixture
def ray_nodes(monkeypatch):
    "A function that adds a node of one core to a cluster; the cluster is `.cluster`."
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_raylet_start_wait_time_s", "60")
    from ray.cluster_utils import Cluster

    cluster = Cluster()

    def add():
        head = {}
        if not cluster.head_node:
            head = dict(include_dashboard=False, no_monitor=True, _system_config=NOTICES)
        for attempt in range(
            4
        ):  # a raylet gives its helpers 15 seconds to start, too little for a very busy machine
            try:
                return cluster.add_node(
                    num_cpus=1, object_store_memory=80_000_000, include_log_monitor=False, **head
                )
            except Exception:
                if attempt == 3:
                    raise

    add.cluster = cluster
    yield add
    cluster.shutdown()


def sweep(toy, add, out: str, seeds: int, *categories: str):
    "The command, on the cluster."
    return start(
        toy,
        out,
        "--category",
        *categories,
        "--seed",
        *range(seeds),
        "--executor",
        "ray",
        "--address",
        add.cluster.address,
    )


def ended(process) -> bool:
    import psutil

    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@needs_ray
def test_a_node_and_a_worker_are_lost_in_mid_run(toy, ray_nodes):
    nodes = ray_nodes(), ray_nodes()
    child = sweep(toy, ray_nodes, "out", SEEDS, "gated")
    until(lambda: len(training(toy / "out")) == 2 or child.poll() is not None, 240)
    assert child.poll() is None, child.communicate()
    workers = [worker_of(folder).parent() for folder in training(toy / "out")]
    raylets = [n.all_processes["raylet"][0].process.pid for n in nodes]
    assert sorted(w.ppid() for w in workers) == sorted(raylets), (
        "the runs are not spread over the nodes"
    )
    orphans = [p for w in workers for p in w.children(recursive=True)]
    next(w for w in workers if w.ppid() == raylets[0]).kill()
    ray_nodes.cluster.remove_node(nodes[1], allow_graceful=False)
    until(
        lambda: all(map(ended, orphans)), 120
    )  # what is lost works on until it notices; with the gate open it would finish first
    release(toy)
    _, err = child.communicate(timeout=400)
    assert child.returncode == 0, err
    assert (
        records(toy / "out") == undisturbed(toy, "gated", seeds=tuple(range(SEEDS)))
        and len(records(toy / "out")) == SEEDS
    )
    resumed = [
        json.loads(p.read_text())["measured"]["resumed"]
        for p in (toy / "out").rglob("*.record.json")
    ]
    assert sum(n >= 8 for n in resumed) == 2, f"two were cut and went on: {resumed}"
    assert not list((toy / "out/runs").glob("*.part"))


@needs_ray
@pytest.mark.skipif(not LONG, reason="MVAD_LONG=1 runs it")
def test_how_much_faster_two_nodes_are(toy, ray_nodes, capsys):
    seconds = []
    for nodes in (1, 2):
        ray_nodes()
        begun = time.monotonic()
        child = sweep(toy, ray_nodes, f"on{nodes}", 12, "slow")
        _, err = child.communicate(timeout=900)
        assert child.returncode == 0, err
        seconds.append(time.monotonic() - begun)
    assert records(toy / "on1") == records(toy / "on2") and len(records(toy / "on2")) == 12
    with capsys.disabled():
        print(
            f"\ntwelve runs of about six seconds: {seconds[0]:.1f} s on one node, {seconds[1]:.1f}"
            f" s on two, {seconds[0] / seconds[1]:.2f} times as fast"
        )


@needs_ray
@pytest.mark.skipif(not LONG, reason="MVAD_LONG=1 runs it")
def test_a_cluster_for_the_time_of_the_call(toy):
    done = reproduce(
        toy, "plate", "broken", "weightless", more=("--executor", "ray", "--jobs", "2")
    )
    assert (
        done.returncode == 1
        and "the lamp broke" in done.stderr
        and records(toy / "out") == undisturbed(toy, "plate")
    ), done.stderr


@needs_submitit
def test_jobs_for_slurm(toy):
    done = reproduce(
        toy, "plate", "broken", more=("--executor", "slurm", "--address", "local", "--jobs", "2")
    )
    assert (
        done.returncode == 1
        and "mvad: failed: cfm ours, broken, seed 0: ValueError: the lamp broke" in done.stderr
    ), done.stderr
    assert records(toy / "out") == undisturbed(toy, "plate")


@needs_submitit
@pytest.mark.skipif(not LONG, reason="MVAD_LONG=1 runs it")
def test_interrupted_jobs_are_cancelled(toy):
    child = start_gated(toy, "out", "--executor", "slurm", "--address", "local")
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130 and "interrupted" in err
    until(lambda: not kernels_in(toy / "out/runs"), 15)
