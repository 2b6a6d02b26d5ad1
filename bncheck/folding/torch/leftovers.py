"""What is left of a BatchNorm module once its scale and shift are folded away.

Of PyTorch's own classes nothing is left: an Identity. Others, as the frozen BatchNorms of
detectors or those with an activation inside, are looked into: where the code scales and shifts its
datum, and then calls submodules one after the other, these are left. That the numbers are those of
a BatchNorm is tried out in float64.
"""

from __future__ import annotations

import copy
import importlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

from bncheck.readers.live_module import defined_in
from bncheck.readers.sequential import TORCH_MODULES
from bncheck.readers.tracing import functions, sandbox, tracer
from bncheck.readers.tracing.fx_values import is_node
from bncheck.readers.tracing.origins import asks_for_shape

NORMS = TORCH_MODULES + "batchnorm"
# What the forward of PyTorch's layers calls or reads, and a subclass may have changed.
CALLED = ("__call__", "_call_impl", "__getattr__", "__getattribute__", "_conv_forward")
READ = ("_output_padding", "weight", "bias", "running_mean", "running_var")
COMMUTING = frozenset({"add", "mul", "sub"})
OTHERS = frozenset({"batch_norm", "truediv", "div", "to", "type_as", "float", "contiguous"})
RANKS = (4, 2, 3, 5)
SPREAD = 4.0  # of the data on which a module is tried out
NEAR = 1e-9  # relative, in float64


def is_plain(module: Any) -> bool:
    """Whether a module computes what the class of PyTorch does from which its forward is."""
    kinds = type(module).__mro__
    return defined_in(module).startswith(TORCH_MODULES) and not any(
        name in vars(kind)
        for kind in kinds
        if not kind.__module__.startswith(TORCH_MODULES) and kind is not object
        for name in (*CALLED, *READ)
    )


def of(module: Any) -> Any | None:
    """The module that stands for a folded one; None where it is not known to be a BatchNorm."""
    nn: Any = importlib.import_module("torch.nn")
    if defined_in(module).startswith(NORMS):
        return _like(nn.Identity(), module) if is_plain(module) else None
    with sandbox.quiet():
        try:
            left = _children_called(module)
            if left is None or not _computes(module, left):
                return None
        except Exception:  # whatever the module's own code raises
            return None
    children = OrderedDict((name, module._modules[name]) for name in left)
    return _like(nn.Sequential(children) if children else nn.Identity(), module)


def _like(new: Any, module: Any) -> Any:
    new.training = module.training
    return new


def _children_called(module: Any) -> list[str] | None:
    """The submodules that a forward calls, in order, after it has scaled and shifted its datum."""
    names: list[str] = []
    value: Any = None
    depending: set[Any] = set()
    for node in _trace(module).nodes:
        if node.op == "placeholder" and value is None:
            value = node
        elif depending.isdisjoint(node.all_input_nodes) or _is_aside(node):
            continue
        elif node.op == "output":
            return names if node.args[0] is value else None
        elif not _takes_alone(node, value, depending) or not _goes_on(node, value, names):
            return None
        else:
            value = node
        depending.add(value)
    return None


def _trace(module: Any) -> Any:
    fx: Any = importlib.import_module("torch.fx")

    class Tracer(fx.Tracer):  # type: ignore[misc]
        def is_leaf_module(self, m: Any, module_qualified_name: str) -> bool:
            return True

    fixed = tracer.fixed_arguments(module, None)
    return Tracer().trace(sandbox.traceable(module, shared=()), concrete_args=fixed)


def _is_aside(node: Any) -> bool:
    return asks_for_shape(node) or functions.is_assertion(getattr(node.target, "__name__", ""))


def _takes_alone(node: Any, value: Any, depending: set[Any]) -> bool:
    """Whether a node takes the value, once, and nothing else that depends on the datum."""
    others = depending - {value}
    given = [each for each in (*node.args, *node.kwargs.values()) if is_node(each)]
    return given.count(value) == 1 and others.isdisjoint(node.all_input_nodes)


def _goes_on(node: Any, value: Any, names: list[str]) -> bool:
    """Whether a node scales or shifts, or is the next call of a submodule, which is noted."""
    if node.op == "call_module":
        names.append(node.target)
        return "." not in node.target and len(node.args) == 1 and not node.kwargs
    target = node.target if node.op == "call_method" else node.target.__name__
    name = str(target).rstrip("_")
    is_first = bool(node.args) and node.args[0] is value
    return not names and (name in COMMUTING or (name in OTHERS and is_first))


def _computes(module: Any, left: Sequence[str]) -> bool:
    """Whether a module scales and shifts as a BatchNorm with its tensors does."""
    torch: Any = importlib.import_module("torch")
    trial = copy.deepcopy(module).cpu().double()
    scale, shift = _scale_and_shift(trial)
    for data in _trials(torch, trial, scale.numel()):
        broadcast = (1, -1, *[1] * (data.dim() - 2))
        expected = data * scale.reshape(broadcast) + shift.reshape(broadcast)
        for name in left:
            expected = trial._modules[name](expected)
        found = trial(data)
        if not torch.allclose(found, expected, rtol=NEAR, atol=NEAR * float(expected.abs().max())):
            return False
    return True


def _scale_and_shift(module: Any) -> tuple[Any, Any]:
    mean, var = module.running_mean, module.running_var
    weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
    eps = getattr(module, "eps", getattr(module, "variance_epsilon", 1e-5))
    scale = (var + eps).rsqrt() if weight is None else weight * (var + eps).rsqrt()
    return scale, (0 if bias is None else bias) - scale * mean


def _trials(torch: Any, module: Any, channels: int) -> Iterator[Any]:
    """Data of the rank that a module takes; at least one. Raises what it raises for the last."""
    for rank in RANKS:
        generator = torch.Generator().manual_seed(rank)
        shape = (3, channels, *[3] * (rank - 2))
        data = SPREAD * torch.randn(shape, dtype=torch.float64, generator=generator)
        try:
            module(data)
        except Exception:
            if rank == RANKS[-1]:
                raise
        else:
            yield from (data, 100 * data)
            return
