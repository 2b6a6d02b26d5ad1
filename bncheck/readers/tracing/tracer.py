"""Runs torch.fx over a module: which modules it looks into, and which inputs are symbols."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bncheck.readers.live_module import LiveModule, defined_in
from bncheck.readers.module_tree import HOOKS
from bncheck.readers.nn_module import recognized
from bncheck.readers.sequential import TORCH_MODULES, torch_class

OWN_FORWARD = (TORCH_MODULES, "torch.ao.", "torch.jit.")
LOOKED_INTO = (TORCH_MODULES + "container", "torch.nn.parallel")
BASE = "module.Module"
VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True, slots=True)
class Inputs:
    """The arguments of a call of a module, as given and by the names of its forward."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    named: Mapping[str, Any]


def trace(module: Any, given: Inputs | None) -> Any:
    """The torch.fx.Graph of a module, on which it leaves marks: give a copy.

    ``given`` are the arguments of a call: what holds tensors becomes symbols, the rest is taken as
    it is. Without them whatever has a default takes that. Raises whatever the module's code does.
    """
    fx: Any = importlib.import_module("torch.fx")

    class Tracer(fx.Tracer):  # type: ignore[misc]
        proxy_buffer_attributes = True

        def is_leaf_module(self, m: Any, module_qualified_name: str) -> bool:
            return is_leaf(m)

    return Tracer().trace(module, concrete_args=fixed_arguments(module, given))


def is_leaf(module: Any) -> bool:
    """Whether tracing does not look into a module.

    It does not where hooks run: they may write into what belongs to the user.
    """
    return LiveModule(module).is_rewired or is_one_call(module)


def is_one_call(module: Any) -> bool:
    """Whether a module's class is PyTorch's own code, or a normalization layer.

    A subclass of PyTorch's layers with a forward of its own may do more than they do.
    """
    own = defined_in(module)
    if own.startswith(OWN_FORWARD):
        return not own.startswith(LOOKED_INTO)
    record = LiveModule(module)
    derived = any(torch_class(path) not in ("", BASE) for path in record.lineage)
    return not derived and recognized(record) is not None


def is_hooked(module: Any) -> bool:
    """Whether running a module runs code that is neither its classes' nor PyTorch's."""
    return any(_has_foreign_code(vars(each)) for each in module.modules())


def _has_foreign_code(held: Mapping[str, Any]) -> bool:
    hooks = (hook for name in HOOKS for hook in held.get(name, {}).values())
    foreign = (not type(hook).__module__.startswith("torch.") for hook in hooks)
    return "forward" in held or any(foreign)


def bind(module: Any, inputs: object) -> Inputs:
    """What a user gives as inputs: a tensor, a tuple or list by position, or a mapping by name.

    Raises TypeError where the module's forward does not take them.
    """
    signature = inspect.signature(type(module).forward)
    if isinstance(inputs, Mapping):
        bound = signature.bind(module, **inputs)
    else:
        several = inputs if isinstance(inputs, tuple | list) else (inputs,)
        bound = signature.bind(module, *several)
    named = dict(list(bound.arguments.items())[1:])
    return Inputs(bound.args[1:], bound.kwargs, named)


def fixed_arguments(module: Any, given: Inputs | None) -> dict[str, Any]:
    """The arguments of a forward that are no symbols."""
    parameters = list(inspect.signature(type(module).forward).parameters.values())[1:]
    named = {p.name: p.default for p in parameters if p.kind not in VARIADIC}
    if given is None and inspect.Parameter.empty not in named.values():
        named.pop(next(iter(named), ""), None)  # a model without any input computes nothing
    taken = {**named, **given.named} if given else named
    return {
        name: value
        for name, value in taken.items()
        if name in named and value is not inspect.Parameter.empty and not _holds_tensors(value)
    }


def _holds_tensors(value: Any) -> bool:
    torch: Any = sys.modules["torch"]
    inside = value.values() if isinstance(value, Mapping) else value
    if isinstance(inside, list | tuple) or inside is not value:
        return any(isinstance(each, torch.Tensor) for each in inside)
    return isinstance(value, torch.Tensor)


def propagate_shapes(module: Any, graph: Any, given: Inputs) -> None:
    """Note on each node what shape it has for these arguments, without computing it.

    Where a node cannot be run so, the ones behind it get no shape.
    """
    fx: Any = importlib.import_module("torch.fx")
    shape_prop: Any = importlib.import_module("torch.fx.passes.shape_prop")
    fake_tensor: Any = importlib.import_module("torch._subclasses.fake_tensor")
    mode = fake_tensor.FakeTensorMode(allow_non_fake_inputs=True)
    interpreter = shape_prop.ShapeProp(fx.GraphModule(module, graph), mode)
    interpreter.propagate(*(_argument(each, given) for each in graph.nodes if _is_given(each)))


def _is_given(node: Any) -> bool:
    return bool(node.op == "placeholder")


def _argument(node: Any, given: Inputs) -> Any:
    """What a placeholder stands for; the tracer numbers those that it took as they are."""
    name = node.target.lstrip("*")
    names = (name, name.rpartition("_")[0])
    default = next(iter(node.args), None)
    return next((given.named[each] for each in names if each in given.named), default)
