"""A pretended CUDA device, for machines that have none.

Every tensor keeps its numbers in the CPU's memory. Those that a real machine would hold on its
device bear a mark, and PyTorch's own hook for subclasses and modes sees each call: what CUDA would
refuse is refused with CUDA's words, what would cross the bus or hold up the host is written down
with the line of the library that asked for it.

    with pretended() as gpu:
        detector = CFM(device="cuda").fit(samples)
    print(gpu.ledger)

What it cannot see: how fast anything is, numbers that differ because a device adds up in another
order, and tensors that are handed to other processes.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)

# what NumPy would need, and what makes the host wait since it needs a number or a size
HOST_ONLY = {"numpy", "__array__", "__array_wrap__", "__dlpack__"}
NEEDS_VALUE = set(
    "item tolist __float__ __int__ __bool__ __index__ __complex__ __contains__ __format__ __repr__"
    " is_nonzero nonzero argwhere unique unique_consecutive masked_select bincount equal allclose"
    " linalg_cholesky linalg_inv linalg_solve linalg_lstsq linalg_svd linalg_eigh".split()
)
DRAWS = set(
    "rand randn randint randperm rand_like randn_like randint_like normal bernoulli multinomial"
    " poisson dropout dropout1d dropout2d dropout3d alpha_dropout normal_ uniform_ random_"
    " bernoulli_ exponential_".split()
)
# read without a look at the numbers, on any device
ABOUT = set(
    "shape dtype requires_grad ndim grad_fn is_leaf layout itemsize is_sparse is_quantized is_meta"
    " is_nested names nbytes size dim numel stride is_contiguous element_size is_floating_point"
    " is_complex is_inference __len__ __hash__ storage_offset requires_grad_ retain_grad"
    " register_hook _has_compatible_shallow_copy_type"
    " is_set_to is_same_size _is_view data_ptr untyped_storage record_stream".split()
)
# these take no tensor of another device, not even a single number
SAME_DEVICE = set("stack cat concat concatenate hstack vstack dstack mm bmm matmul".split())
IN_PLACE = set("__iadd__ __isub__ __imul__ __itruediv__ __iand__ __ior__ __ixor__ __ipow__".split())
LARGE = 64 * 1024  # bytes: from here on an asynchronous copy of pageable memory waits, too


# Marks ---------------------------------------------------------------------------------------


def on_device(tensor: Tensor) -> bool:
    "Whether this tensor is pretended to be on the device."
    return getattr(tensor, "_pretended", False)


def mark(tensor: Tensor, device: bool) -> Tensor:
    "The same tensor, from now on said to be on the device, or on the host."
    if device:
        tensor._pretended = True
    elif on_device(tensor):
        del tensor._pretended
    return tensor


def mark_all(out, device: bool):
    "The same result, all tensors in it marked."
    if isinstance(out, Tensor):
        mark(out, device)
    elif isinstance(out, (tuple, list)):
        for entry in out:
            mark_all(entry, device)
    elif isinstance(out, dict):
        for entry in out.values():
            mark_all(entry, device)
    return out


def tensors_in(*trees) -> list[Tensor]:
    "All tensors in nested arguments, in their order."
    found = []
    for tree in trees:
        if isinstance(tree, Tensor):
            found.append(tree)
        elif isinstance(tree, (tuple, list)):
            found += tensors_in(*tree)
        elif isinstance(tree, dict):
            found += tensors_in(*tree.values())
        elif isinstance(tree, slice):
            found += tensors_in(tree.start, tree.stop, tree.step)
    return found


def size_in_bytes(tensors: list[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def names_cuda(device) -> bool:
    "Whether an argument `device` means the pretended one."
    if isinstance(device, int) and not isinstance(device, bool):
        return True
    return isinstance(device, (str, torch.device)) and torch.device(device).type == "cuda"


# Ledger --------------------------------------------------------------------------------------


class Counts(NamedTuple):
    """What was asked of bus and host: copies to the device, copies to the host, waits of the host.

    A copy that is not asynchronous is a wait as well. `draws` are random numbers that the device's
    own generator would make: they are others than the CPU's.
    """

    to_device: int = 0
    to_host: int = 0
    waits: int = 0
    draws: int = 0

    def __sub__(self, other: Counts) -> Counts:
        return Counts(*(a - b for a, b in zip(self, other)))


@dataclass
class Ledger:
    """What crossed the bus and what the host waited for, by line of the library.

    Args:
        package: the folder whose lines are named; notebook cells are named, too.
    """

    package: Path
    events: Counter = field(default_factory=Counter)
    bytes: Counter = field(default_factory=Counter)

    def note(self, kind: str, size: int = 0):
        "One more event of a kind (a field of `Counts`), at the line that asks for it now."
        key = kind, self.line()
        self.events[key] += 1
        self.bytes[key] += size

    def line(self) -> str:
        "File and line of the innermost frame of the library or of a notebook's cell."
        frame = sys._getframe(1)
        root = str(self.package)
        while frame is not None:
            name = frame.f_code.co_filename
            if name.startswith(root):
                return f"{name[len(root) + 1 :]}:{frame.f_lineno}"
            if name.startswith("<ipython") or "ipykernel" in name:
                return f"cell:{frame.f_lineno}"
            frame = frame.f_back
        return "elsewhere"

    def counts(self) -> Counts:
        "All events of the library's lines so far."
        totals = Counter()
        for (kind, line), n in self.events.items():
            if line != "elsewhere":
                totals[kind] += n
        return Counts(**totals)

    def __str__(self) -> str:
        rows = [f"{n:6d} {kind:9s} {line}" for (kind, line), n in self.events.most_common()]
        return "\n".join(rows)


# Calls ---------------------------------------------------------------------------------------


@dataclass
class Call:
    "One call of PyTorch, as the mode sees it."

    function: Callable
    name: str
    args: tuple
    kwargs: dict

    @property
    def tensors(self) -> list[Tensor]:
        return tensors_in(self.args, self.kwargs)

    def run(self):
        return self.function(*self.args, **self.kwargs)

    def take_device(self) -> bool | None:
        "Whether `device=` names the pretended one, which then becomes the CPU; None without it."
        device = self.kwargs.get("device")
        if device is None:
            return None
        if names_cuda(device):
            self.kwargs["device"] = CPU
            return True
        return False


class PretendedCuda(TorchFunctionMode):
    """The mode under which tensors bear marks; `ledger` has what was counted.

    `rules` says what happens at calls that move, read or draw; every other call is arithmetic.
    """

    def __init__(self, package: Path):
        super().__init__()
        self.ledger = Ledger(package)
        self.in_backward = False
        self.rules = {"to": self.move, "cpu": self.move, "cuda": self.move}
        self.rules |= {"copy_": self.copy, "_foreach_copy_": self.copy_each}
        self.rules |= {"__getitem__": self.get_item, "__setitem__": self.set_item}
        self.rules |= dict.fromkeys(("tensor", "as_tensor", "asarray", "new_tensor"), self.create)
        self.rules |= dict.fromkeys(HOST_ONLY, self.refuse_on_host)
        self.rules |= dict.fromkeys(NEEDS_VALUE, self.read_value)
        self.rules |= dict.fromkeys(DRAWS, self.draw)
        self.rules |= dict.fromkeys(("arange", "linspace", "full"), self.by_number)
        self.rules |= {"where": self.where, "repeat_interleave": self.repeat}
        self.rules |= {"__iter__": self.iterate, "__deepcopy__": self.like_first}
        self.rules |= {"set_": self.like_first, "grad": self.gradients, "backward": Call.run}
        self.rules |= {"is_pinned": self.is_pinned}
        self.rules |= dict.fromkeys(ABOUT, Call.run)

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        if name in ("__get__", "__set__", "__delete__"):
            return self.attribute(function, name, args)
        call = Call(function, name, args, dict(kwargs or {}))
        return self.rules.get(name, self.compute)(call)

    def refuse(self, message: str, error: type = RuntimeError):
        "Raise what CUDA would, with the library's line."
        raise error(f"{message} ({self.ledger.line()})")

    # attributes

    def attribute(self, function, name: str, args: tuple):
        "Reading or setting an attribute of a tensor, such as `device`, `data` or `grad`."
        what = getattr(function.__self__, "__name__", "")
        if what in ABOUT and name == "__get__":
            return function(*args)
        owner = args[0]
        if name == "__set__":
            return self.set_attribute(function, what, owner, args[1])
        if what == "device" and on_device(owner):
            return CUDA
        if what in ("is_cuda", "is_cpu"):
            return on_device(owner) == (what == "is_cuda")
        out = function(*args)
        return mark(out, on_device(owner)) if isinstance(out, Tensor) else out

    def set_attribute(self, function, what: str, owner: Tensor, value):
        "Setting `data` moves a tensor; a gradient must be where its parameter is."
        if what == "grad" and isinstance(value, Tensor) and on_device(value) != on_device(owner):
            self.refuse("attempting to assign a gradient of another device to a tensor")
        function(owner, value)
        if what == "data":
            mark(owner, on_device(value))

    # moving

    def crossing(self, to_device: bool, tensors: list[Tensor], waits: bool = True):
        "Write down a copy between host and device, and that the host waits for it."
        self.ledger.note("to_device" if to_device else "to_host", size_in_bytes(tensors))
        if waits:
            self.ledger.note("waits")

    def target_of(self, call: Call) -> bool | None:
        "Where `to`, `cpu` or `cuda` move a tensor; None for one that stays. CUDA is taken out."
        if call.name in ("cpu", "cuda"):
            device = call.name == "cuda"
            if device:
                call.function, call.args, call.kwargs = Tensor.clone, call.args[:1], {}
            return device
        target = call.take_device()
        args = list(call.args)
        for i, argument in enumerate(args[1:], 1):
            if isinstance(argument, Tensor):
                target = None if argument.is_meta else on_device(argument)
            elif isinstance(argument, (str, torch.device)) or type(argument) is int:
                target = names_cuda(argument)
                args[i] = CPU if target else argument
        call.args = tuple(args)
        return target

    def move(self, call: Call):
        "`to`, `cpu` and `cuda`: a copy where the tensor is not there yet."
        source = call.args[0]
        if not isinstance(source, Tensor):
            return self.compute(call)
        here, asynchronous = on_device(source), call.kwargs.get("non_blocking", False)
        asynchronous = asynchronous or (call.name == "to" and self.third_flag(call))
        if call.name == "cuda":
            asynchronous = asynchronous or True in call.args[1:]
        target = self.target_of(call)
        out = call.run()
        if target is None or target == here:
            return mark(out, here)
        waits = not asynchronous
        if asynchronous and target and not getattr(source, "_pinned", False):
            waits = size_in_bytes([source]) > LARGE
        self.crossing(target, [source], waits)
        return mark(out.clone() if out is source else out, target)

    @staticmethod
    def third_flag(call: Call) -> bool:
        "Whether `to(device, dtype, True)` asks for an asynchronous copy."
        flags = [a for a in call.args[1:] if isinstance(a, bool)]
        return bool(flags and flags[0])

    def copy(self, call: Call):
        "`copy_` writes across devices; the target stays where it is."
        target, source = tensors_in(call.args, call.kwargs)[:2]
        if on_device(target) != on_device(source):
            asynchronous = call.kwargs.get("non_blocking", False) or True in call.args[2:]
            self.crossing(on_device(target), [source], not asynchronous)
        return mark(call.run(), on_device(target))

    def copy_each(self, call: Call):
        "`_foreach_copy_` of two lists."
        for target, source in zip(*call.args[:2]):
            if on_device(target) != on_device(source):
                self.crossing(on_device(target), [source])
        return call.run()

    def create(self, call: Call):
        "`torch.tensor` and its kind: numbers of the host that become a tensor of the device."
        place = 1 if call.name == "new_tensor" else 0
        data = call.args[place] if len(call.args) > place else call.kwargs.get("data")
        inside = [t for t in tensors_in(data) if on_device(t)]
        if not isinstance(data, Tensor):
            for _ in inside:
                self.ledger.note("waits")
        here = isinstance(data, Tensor) and on_device(data)
        target = call.take_device()
        if target is None:
            target = on_device(call.args[0]) if call.name == "new_tensor" else here
        out = call.run()
        if target == here:
            return mark(out, here)
        self.crossing(target, [out])
        return mark(out.clone() if out is data else out, target)

    # reading

    def refuse_on_host(self, call: Call):
        "NumPy cannot look into a device."
        source = call.args[0]
        if isinstance(source, Tensor) and on_device(source):
            if not call.kwargs.get("force"):
                what = "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu()"
                self.refuse(what, TypeError)
            self.crossing(False, [source])
        return call.run()

    def read_value(self, call: Call):
        "A number, or a size that depends on numbers: the host waits for the device."
        if any(on_device(t) for t in call.tensors):
            self.ledger.note("waits")
        return self.compute(call)

    def by_number(self, call: Call):
        "A size, an end or a value that is a tensor of the device has to be read first."
        for tensor in call.tensors:
            if on_device(tensor):
                self.ledger.note("waits")
        target = call.take_device()
        return mark_all(call.run(), bool(target))

    def where(self, call: Call):
        "`where` of a condition alone finds pixels, and how many: a wait."
        return self.read_value(call) if len(call.tensors) == 1 else self.compute(call)

    def repeat(self, call: Call):
        "Repeats that are a tensor have to be added up, unless their sum is given."
        known = len(call.tensors) < 2 or call.kwargs.get("output_size") is not None
        return self.compute(call) if known else self.read_value(call)

    def iterate(self, call: Call):
        "Rows, each where the whole is."
        rows = call.args[0].unbind(0)
        return iter(mark_all(rows, on_device(call.args[0])))

    # indices

    def check_index(self, owner: Tensor, index) -> bool:
        """Whether the index holds tensors; lists and arrays of the host cross the bus.

        An index of the device into a tensor of the host is refused.
        """
        entries = index if isinstance(index, tuple) else (index,)
        listed = [e for e in entries if isinstance(e, list) or type(e).__name__ == "ndarray"]
        tensors = tensors_in(*entries)
        if not on_device(owner):
            if any(on_device(t) for t in tensors):
                what = "indices should be either on cpu or on the same device as the indexed tensor"
                self.refuse(f"{what} (cpu)")
            return bool(tensors or listed)
        for tensor in tensors:
            if not on_device(tensor) and tensor.dim():
                self.crossing(True, [tensor])
            elif on_device(tensor) and not tensor.dim() and tensor.dtype != torch.bool:
                self.ledger.note("waits")
        for _ in listed:
            self.crossing(True, [])
        return bool(tensors or listed)

    def has_mask(self, index) -> bool:
        return any(on_device(t) and t.dtype == torch.bool for t in tensors_in(index))

    def get_item(self, call: Call):
        "`x[index]`; how many entries a mask picks has to be read."
        owner, index = call.args
        self.check_index(owner, index)
        if on_device(owner) and self.has_mask(index):
            self.ledger.note("waits")
        return mark_all(call.run(), on_device(owner))

    def set_item(self, call: Call):
        "`x[index] = value`: a single number goes with the call, a slice may be of the other side."
        owner, index, value = call.args
        by_tensor = self.check_index(owner, index)
        single = not isinstance(value, Tensor) or (not value.dim() and not on_device(value))
        if on_device(owner) and self.has_mask(index) and not single:
            self.ledger.note("waits")
        if isinstance(value, Tensor) and on_device(value) != on_device(owner):
            if by_tensor and not single:
                self.refuse("Expected all tensors to be on the same device: index_put_")
            if not single:
                self.crossing(on_device(owner), [value])
        return call.run()

    # arithmetic

    def draw(self, call: Call):
        "Random numbers: the generator must be the device's, whose numbers are not the CPU's."
        target = call.take_device()
        device = any(on_device(t) for t in call.tensors) if target is None else target
        generator = call.kwargs.get("generator")
        of_device = getattr(generator, "of_device", False)
        if generator is not None and of_device != device:
            expected, found = ("cuda", "cpu") if device else ("cpu", "cuda")
            what = f"Expected a '{expected}' device type for generator but found '{found}'"
            self.refuse(what)
        idle = "dropout" in call.name and not call.kwargs.get("training", True)
        if device and not idle:
            self.ledger.note("draws")
        return mark_all(call.run(), device)

    def gradients(self, call: Call):
        "`torch.autograd.grad`: each gradient is where its input is."
        if call.function is not torch.autograd.grad:
            return self.compute(call)
        inputs = call.args[1] if len(call.args) > 1 else call.kwargs["inputs"]
        inputs = [inputs] if isinstance(inputs, Tensor) else inputs
        out = call.run()
        for gradient, wanted in zip(out, inputs):
            mark_all(gradient, on_device(wanted))
        return out

    def like_first(self, call: Call):
        "A result that is where the first argument is, whatever the others are."
        return mark_all(call.run(), on_device(call.args[0]))

    def is_pinned(self, call: Call) -> bool:
        return getattr(call.args[0], "_pinned", False)

    def compute(self, call: Call):
        "Any other call: its tensors must be of one device, and so is what comes out."
        target = call.take_device()
        pinned = call.kwargs.pop("pin_memory", False)
        device = self.common_device(call.name, call.tensors)
        if target is None:
            target = device
        out = call.run()
        if pinned:
            out._pinned = True
        return mark_all(out, target) if target or device else out

    def common_device(self, name: str, tensors: list[Tensor]) -> bool:
        """The device of all these tensors.

        Single numbers of the host may come along where the call allows it. Gradients have no mark
        while autograd's engine runs: there they are where they are needed.
        """
        marked = [on_device(t) for t in tensors]
        if not any(marked):
            return False
        if all(marked) or self.in_backward:
            return True
        strict = name in SAME_DEVICE
        arrays = {m for m, t in zip(marked, tensors) if t.dim() or strict}
        changed_in_place = name in IN_PLACE or (name.endswith("_") and not name.endswith("__"))
        if False in arrays or (changed_in_place and not marked[0]):
            what = "Expected all tensors to be on the same device, but found at least two devices"
            self.refuse(f"{what}, cuda:0 and cpu! (in {name})")
        return True

    def run_engine(self, engine: Callable) -> Callable:
        "Autograd's engine, with this mode on in backward passes that are written in Python."

        def run(*args, **kwargs):
            before, self.in_backward = self.in_backward, True
            try:
                with self:
                    return engine(*args, **kwargs)
            finally:
                self.in_backward = before

        return run


# What a program asks the machine -------------------------------------------------------------


class PretendedGenerator(torch.Generator):
    "A generator of the device; its numbers are the CPU's."

    def __new__(cls, device="cpu"):
        made = super().__new__(cls, "cpu")
        made.of_device = names_cuda(device)
        return made

    @property
    def device(self):
        return CUDA if self.of_device else CPU


class PretendedStream:
    "A stream, or an event, in which everything has happened already."

    def __init__(self, *args, **kwargs):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def nothing(self, *args, **kwargs):
        return None

    wait_stream = wait_event = record = wait = record_event = nothing
    synchronize = nothing

    def query(self) -> bool:
        return True

    def elapsed_time(self, end) -> float:
        return 1.0  # milliseconds


def _answers(gpu: PretendedCuda) -> dict:
    "What `torch.cuda` says about the pretended machine."
    free, total = 10 * 2**30, 12 * 2**30
    about = dict(name="pretended", major=9, minor=0, total_memory=total, multi_processor_count=16)

    def nothing(*args, **kwargs):
        return None

    def synchronise(*args):
        gpu.ledger.note("waits")

    answers = dict(synchronize=synchronise)
    for name in (
        "set_device empty_cache reset_peak_memory_stats init ipc_collect manual_seed"
        " manual_seed_all set_rng_state set_rng_state_all _lazy_init"
    ).split():
        answers[name] = nothing
    values = dict(
        is_available=True,
        is_initialized=True,
        device_count=1,
        current_device=0,
        mem_get_info=(free, total),
        memory_allocated=0,
        memory_reserved=0,
        max_memory_allocated=1,
        max_memory_reserved=1,
        get_device_name=about["name"],
        get_device_capability=(9, 0),
        get_device_properties=SimpleNamespace(**about),
        is_bf16_supported=True,
        get_rng_state=torch.zeros(16, dtype=torch.uint8),
        get_rng_state_all=[torch.zeros(16, dtype=torch.uint8)],
    )
    for name, value in values.items():
        answers[name] = lambda *args, value=value, **kwargs: value
    stream = PretendedStream()
    for name in ("current_stream", "default_stream", "stream"):
        answers[name] = lambda *args, **kwargs: stream
    return answers | dict(Stream=PretendedStream, Event=PretendedStream)


def _loading(function: Callable, key: str) -> Callable:
    "A function that reads tensors from a file, to the device that `key` names."

    def load(*args, **kwargs):
        device = kwargs.pop(key, None)
        if not names_cuda(device):
            return function(*args, **kwargs | ({key: device} if device is not None else {}))
        out = function(*args, **kwargs | {key: "cpu"})
        return {k: v.to(device) if isinstance(v, Tensor) else v for k, v in out.items()}

    return load


def _pin_memory(tensor: Tensor, *args) -> Tensor:
    "A copy in memory that the device may fetch without asking the host."
    pinned = tensor.clone()
    pinned._pinned = True
    return pinned


def _grouping(group: Callable) -> Callable:
    "Torch's table of tensors by device and type, with the device that is pretended in its keys."

    def grouped(*args):
        table = {}
        for (device, kind), entry in group(*args).items():
            first = next(t for t in tensors_in(entry))
            table[CUDA if on_device(first) else device, kind] = entry
        return table

    return grouped


def _patches(gpu: PretendedCuda) -> Iterator:
    "All that is put in another's place as long as the device is pretended."
    import safetensors.torch
    import torch._dynamo  # noqa: F401  optimisers import it, and it looks at what stands in torch.cuda

    replace = mock.patch.object
    for name, answer in _answers(gpu).items():
        yield replace(torch.cuda, name, answer)
    yield replace(torch, "Generator", PretendedGenerator)
    yield replace(torch.Tensor, "pin_memory", _pin_memory)
    load_file = _loading(safetensors.torch.load_file, "device")
    yield replace(safetensors.torch, "load_file", load_file)
    yield replace(torch, "load", _loading(torch.load, "map_location"))

    for name in ("_accelerator_graph_capture_health_check", "_cuda_graph_capture_health_check"):
        if hasattr(torch.optim.Optimizer, name):
            yield replace(torch.optim.Optimizer, name, lambda optimiser: None)

    by_device = "_group_tensors_by_device_and_dtype"
    yield replace(torch._C, by_device, _grouping(getattr(torch._C, by_device)))
    new_parameter = torch.nn.Parameter.__new__

    def parameter(cls, data=None, *args, **kwargs):
        made = new_parameter(cls, data, *args, **kwargs)
        return made if data is None else mark(made, on_device(data))

    yield replace(torch.nn.Parameter, "__new__", staticmethod(parameter))

    autocast = torch.amp.autocast_mode.autocast
    cast = autocast.__init__

    def begin_cast(self, device_type, *args, **kwargs):
        cast(self, "cpu" if device_type == "cuda" else device_type, *args, **kwargs)

    yield replace(autocast, "__init__", begin_cast)
    engine = torch.autograd._engine_run_backward
    yield replace(torch.autograd, "_engine_run_backward", gpu.run_engine(engine))

    run_thread = threading.Thread.run

    def run_in_mode(thread):
        with gpu:
            run_thread(thread)

    yield replace(threading.Thread, "run", run_in_mode)


@contextlib.contextmanager
def pretended(package: Path | None = None) -> Iterator[PretendedCuda]:
    "A machine with one CUDA device, as far as a program on the CPU can tell."
    if package is None:
        import mvad

        package = Path(mvad.__file__).parent
    gpu = PretendedCuda(package)
    with contextlib.ExitStack() as stack:
        for patch in _patches(gpu):
            stack.enter_context(patch)
        yield stack.enter_context(gpu)


# Training steps ------------------------------------------------------------------------------


class StepWatch:
    """What a training's steps cost: the counts between two steps of the same optimiser.

    Example:
        with pretended() as gpu, StepWatch(gpu) as watch:
            detector.fit(samples)
        print(watch.phases())
    """

    def __init__(self, gpu: PretendedCuda):
        self.gpu, self.seen = gpu, []

    def __enter__(self) -> StepWatch:
        from torch.optim.optimizer import register_optimizer_step_post_hook

        self.hook = register_optimizer_step_post_hook(self.note)
        return self

    def __exit__(self, *error):
        self.hook.remove()

    def note(self, optimiser, args, kwargs):
        "An optimiser has made a step."
        self.seen.append((optimiser, self.gpu.ledger.counts()))

    def phases(self) -> list[Counts]:
        """The counts of the last step of each phase of a training.

        Optimisers that take turns belong to one phase.
        """
        moments = defaultdict(list)
        for moment, (optimiser, _) in enumerate(self.seen):
            moments[id(optimiser)].append(moment)
        steps, end = [], -1
        for own in moments.values():
            if own[0] > end and len(own) > 1:
                steps.append(self.seen[own[-1]][1] - self.seen[own[-2]][1])
                end = own[-1]
        return steps
