"""Every method still computes the numbers that are kept in tests/golden.

Where processor and libraries are those that the files were written with, numbers may move by 1e-6
of the largest value of their array: the order of a sum may change, nothing else. Elsewhere other
instructions round in other ways, and a few steps of training enlarge that: there 1e-3 is allowed,
1e-2 of gradients, and metrics are not compared (`golden.elsewhere` says why).

After an intended change: python tests/golden.py CASE ..., and say in the commit what moved and why.
"""

import golden
import numpy as np
import pytest

STRICT = golden.on_the_same_machine


@pytest.mark.parametrize("name", golden.CASES)
def test_numbers_stay(name):
    """Every quantity of a case is what its file says."""
    kept, machine = golden.read(name)
    here = golden.machine()
    tolerance = STRICT if here == machine else golden.elsewhere
    moved = golden.differences(golden.compute(golden.CASES[name]), kept, tolerance)
    about = f"{name}: {len(moved)} of {len(kept)} quantities moved too far ({tolerance.__name__})"
    assert not moved, "\n".join([about, *moved, f"kept on {machine}", f"computed on {here}"])


def test_files_are_those_of_the_cases_and_small():
    """No file is left over from a case that is gone, and all together stay small."""
    files = sorted(golden.FOLDER.iterdir())
    assert [path.name for path in files] == sorted(f"{name}.npz" for name in golden.CASES)
    assert sum(path.stat().st_size for path in files) < 400_000


def test_a_changed_number_is_seen():
    """One number of a quantity moves by 1e-5 of the largest: a line names the quantity."""
    kept, _ = golden.read("cfm-paper")
    assert golden.differences(kept, kept, STRICT) == []
    for name, array in kept.items():
        place = np.unravel_index(np.abs(array).argmax(), array.shape)
        changed = array.astype(np.float64)
        changed[place] += 1e-5 * (np.abs(array).max() or 1)
        (line,) = golden.differences({**kept, name: changed}, kept, STRICT)
        assert line.startswith(f"{name}: moved by ")


def test_what_appears_or_vanishes_is_seen():
    """A line tells of what is new, gone, of another shape, or not a number any more."""
    kept, _ = golden.read("cfm-paper")
    losses = kept["losses, phase 0"]
    rest = {name: array for name, array in kept.items() if name != "losses, phase 0"}
    unknown = np.where(np.arange(len(losses)) == 0, np.nan, losses)

    def told(found):
        return golden.differences({**rest, **found}, kept, STRICT)

    assert told({}) == ["losses, phase 0: is gone"]
    assert told({"losses, phase 0": losses, "loss": losses}) == ["loss: is new"]
    shapes = f"{losses.shape} became {losses[1:].shape}"
    assert told({"losses, phase 0": losses[1:]}) == [f"losses, phase 0: shape {shapes}"]
    (line,) = told({"losses, phase 0": unknown})
    assert line.startswith("losses, phase 0: moved by inf; at [0] ")


def test_elsewhere_more_is_allowed_but_not_everything():
    """The looser tolerances have an end, too."""
    kept, _ = golden.read("cfm-paper")

    def told(name, factor):
        return golden.differences({**kept, name: kept[name] * factor}, kept, golden.elsewhere)

    gradients = "gradient norms of optimiser 0, first step"
    assert told("losses, phase 0", 1 + 5e-4) == told(gradients, 1 + 5e-3) == []
    assert told("metrics of map", 0.5) == []
    assert len(told("losses, phase 0", 1 + 5e-3)) == len(told(gradients, 1 + 5e-2)) == 1
    assert len(told("metrics of map", np.nan)) == 1
