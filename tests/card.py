"""A stand-in for a GPU, for machines without one: it tells apart what lies where, and who waits.

Tensors "on the card" are ordinary ones that bear a mark on their memory and call themselves
`cuda:0`. An operation that mixes them with tensors of the CPU fails as it does on a GPU, and each
one for which a program waits for the card is counted. It computes as the CPU does: what differs in
numbers (autocast, fp16) needs a GPU.
"""

import contextlib

import lightning_fabric
import torch
from torch.nn.utils import clip_grad
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from course_utils import runtime

CARD = torch.device("cuda", 0)
aten = torch.ops.aten
COPIES = (aten.copy_.default, aten._to_copy.default, aten.clone.default)
INDEXED = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default)
READS = (aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default,
         aten.equal.default, aten._unique2.default)  # fmt: skip


def marked(tensor) -> bool:
    return getattr(tensor.untyped_storage(), "on_card", False)


def mark(tensor):
    if isinstance(tensor, torch.Tensor):
        tensor.untyped_storage().on_card = True
    return tensor


def tensors(*what) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(what) if isinstance(leaf, torch.Tensor)]


def is_card(device) -> bool:
    return isinstance(device, str | torch.device) and torch.device(device).type == "cuda"


class Operations(TorchDispatchMode):
    """Looks at each operation: are its tensors on one side, does it make the program wait?"""

    def __init__(self):
        super().__init__()
        self.waits: list[str] = []
        self.within = False  # a call that has to do with the card
        self.within_backward = False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = tensors(args, kwargs)
        card = [tensor for tensor in given if marked(tensor)]
        if card and (func in READS or (func in INDEXED and self._by_mask(args[1]))):
            self.waits.append(str(func))
        other = [t for t in given if not marked(t) and t.ndim and t.numel()]
        if card and other and not self.within_backward and func not in INDEXED:
            if func is not aten.copy_.default:
                raise RuntimeError(f"{func}: tensors on the CPU and on the card")
            self.waits.append(str(func))
        found = func(*args, **(kwargs or {}))
        new = not func._schema.is_mutable
        if new and (card or (self.within and not given) or self.within_backward):
            tree_map(mark, found)
        return found

    @staticmethod
    def _by_mask(indices) -> bool:
        return any(
            index is not None and (index.dtype in (torch.bool, torch.uint8) or not marked(index))
            for index in indices
        )


class Calls(TorchFunctionMode):
    """Answers what asks for the card: `.to("cuda")`, `torch.zeros(device=...)`, `.device`."""

    def __init__(self, operations: Operations):
        super().__init__()
        self.operations = operations

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs, name = dict(kwargs or {}), getattr(func, "__name__", "")
        first = args[0] if args and isinstance(args[0], torch.Tensor) else None
        if func == torch.Tensor.device.__get__:
            return CARD if marked(first) else func(*args)
        if func == torch.Tensor.is_cuda.__get__:
            return marked(first)
        if func == torch.Tensor.is_cpu.__get__:
            return not marked(first)
        if func in (torch.Tensor.to, torch.Tensor.cpu, torch.Tensor.cuda):
            return self._moved(func, first, args[1:], kwargs)
        if first is not None and marked(first):
            if name == "numpy":
                raise TypeError("can't convert cuda:0 device type tensor to numpy")
            if name == "tolist":
                self.operations.waits.append(name)
        on_card = is_card(kwargs.get("device"))
        if on_card:
            kwargs["device"] = "cpu"
            if func is torch.tensor:
                self.operations.waits.append("torch.tensor")
        before = self.operations.within, self.operations.within_backward
        self.operations.within = on_card or any(map(marked, tensors(args, kwargs)))
        self.operations.within_backward |= name in ("backward", "grad", "run_backward")
        try:
            found = func(*args, **kwargs)
        finally:
            self.operations.within, self.operations.within_backward = before
        copied = name == "__deepcopy__" and marked(first)  # copies the memory, by no operation
        return tree_map(mark, found) if on_card or copied else found

    def _moved(self, func, tensor, more, kwargs):
        where = {torch.Tensor.cpu: "cpu", torch.Tensor.cuda: CARD}.get(func)
        others, plain = [*more, *kwargs.values()], {}
        for other in others:
            if isinstance(other, torch.Tensor):
                where, plain["dtype"] = CARD if marked(other) else "cpu", other.dtype
            elif isinstance(other, str | torch.device):
                where = other
            elif isinstance(other, torch.dtype):
                plain["dtype"] = other
        if "memory_format" in kwargs:
            plain["memory_format"] = kwargs["memory_format"]
        found = tensor.to(**plain) if plain else tensor
        if where is None or is_card(where) == marked(tensor):
            return found
        if not (is_card(where) and kwargs.get("non_blocking")):
            self.operations.waits.append(f"{'to' if is_card(where) else 'from'} the card")
        found = found.detach().numpy().copy() if not is_card(where) else found.clone()
        return mark(found) if is_card(where) else torch.from_numpy(found)


class Fabric(lightning_fabric.Fabric):
    """Computes on the CPU, with the model's tensors marked."""

    def __init__(self, accelerator, devices, precision):
        super().__init__(accelerator="cpu", devices=devices, precision=precision)

    def setup(self, model, *optimizers):
        found = super().setup(model, *optimizers)
        for tensor in [*model.parameters(), *model.buffers()]:
            mark(tensor)
        return found


@contextlib.contextmanager
def inserted(monkeypatch):
    """The course finds a GPU here; yields what was waited for."""
    monkeypatch.setattr(runtime, "device", lambda: CARD)
    monkeypatch.setattr(runtime, "precision", lambda where=None: ("32-true", "a stand-in"))
    monkeypatch.setattr(lightning_fabric, "Fabric", Fabric)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device=None: torch.zeros(1))
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device=None: None)
    # Written in C++, it says "cpu"; and so the gradients' norm would be sent to and fro.
    grouped = clip_grad._group_tensors_by_device_and_dtype
    monkeypatch.setattr(
        clip_grad,
        "_group_tensors_by_device_and_dtype",
        lambda lists: {(CARD, kind): found for (_, kind), found in grouped(lists).items()},
    )
    operations = Operations()
    with operations, Calls(operations):
        yield operations.waits
