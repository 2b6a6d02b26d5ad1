"""Which modules can be folded at all, as what, and what to do with the others."""

from __future__ import annotations

import copy
import importlib
import sys
from typing import Any

from bncheck.errors import CannotFold

WRAPPERS = {  # by class, and how to get at what they hold
    "torch._dynamo.eval_frame.OptimizedModule": (
        "is compiled: fold model._orig_mod, and compile the result"
    ),
    "torch.nn.parallel.distributed.DistributedDataParallel": (
        "is wrapped for distributed training: fold model.module"
    ),
    "torch.distributed.fsdp.fully_sharded_data_parallel.FullyShardedDataParallel": (
        "holds shards of its parameters: gather them and fold the plain module"
    ),
}

TRANSPARENT = {  # wrappers that hand on what they are given, and what they hold as ``module``
    "torch.nn.parallel.data_parallel.DataParallel",
    "torch.optim.swa_utils.AveragedModel",
}


def is_wrapper(module: Any) -> bool:
    """Whether a module does what its ``module`` does."""
    return path_of(type(module)) in TRANSPARENT


def wrapped_again(wrapper: Any, inner: Any) -> Any:
    """A copy of a wrapper, around another module."""
    return copy.deepcopy(wrapper, {id(wrapper.module): inner})


def path_of(kind: type) -> str:
    """The name of a class."""
    return f"{kind.__module__}.{kind.__qualname__}"


def require_foldable(module: Any) -> None:
    """Raise CannotFold for what is no module of plain code and real tensors."""
    torch: Any = sys.modules.get("torch") or importlib.import_module("torch")
    if isinstance(module, torch.jit.ScriptModule):
        raise CannotFold(
            "the module is a ScriptModule: fold what it was made from, or save it and fold the file"
        )
    if not isinstance(module, torch.nn.Module):
        name = type(module).__name__
        raise CannotFold(
            f"a value of type {name} cannot be folded: give a path, nn.Module or ExportedProgram"
        )
    for kind in type(module).__mro__:
        why = WRAPPERS.get(path_of(kind))
        if why:
            raise CannotFold(f"the module {why}")
    for each in module.modules():
        for tensor in (*each._parameters.values(), *each._buffers.values()):
            if tensor is not None:
                _require_values(torch, tensor)


def _require_values(torch: Any, tensor: Any) -> None:
    if isinstance(tensor, torch.nn.parameter.UninitializedTensorMixin):
        raise CannotFold("the module has lazy layers: run it once, so that they get their shapes")
    if tensor.is_meta or hasattr(tensor, "fake_mode"):
        raise CannotFold("the module is on the meta device, where tensors have no values")
