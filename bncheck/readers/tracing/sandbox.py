"""Where a user's model is traced: on a copy of its modules, in silence, and without a trace left.

A copy that is traced shares all but modules and containers with the model; one that is run shares
nothing but parameters that are too large.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import random
import sys
import warnings
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterable, Iterator
from types import MethodType
from typing import Any

CONTAINERS = (dict, OrderedDict, defaultdict, Counter, list, set, deque)
RANK_CHECK = "_check_input_dim"
MOST_COPIED = 2**29  # bytes of parameters


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Run foreign code without output, warnings or gradients; random states are put back."""
    torch: Any = sys.modules["torch"]
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        stack.enter_context(warnings.catch_warnings())
        stack.enter_context(_random_states_kept(torch))
        stack.enter_context(_logging_disabled())
        stack.enter_context(torch.no_grad())
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _logging_disabled() -> Iterator[None]:
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(level)


@contextlib.contextmanager
def _random_states_kept(torch: Any) -> Iterator[None]:
    numpy: Any = sys.modules.get("numpy")
    state, numpy_state = random.getstate(), numpy and numpy.random.get_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(state)
        if numpy:
            numpy.random.set_state(numpy_state)


def shell(module: Any, shared: Iterable[Any]) -> Any:
    """A copy of the modules within a module, and of the plain containers that they hold.

    Tensors, ``shared`` modules and all other objects are those of the original: it is not to be
    run with them, only to be traced.
    """
    return _Shells({id(each): each for each in shared}).copied(module)


def traceable(module: Any, shared: Iterable[Any]) -> Any:
    """A ``shell`` whose normalization layers do not ask for the rank of what they are given.

    What is traced has none, and subclasses of PyTorch's layers that call its forward would fail.
    """
    made = shell(module, shared)
    kept = {id(each) for each in shared}
    for each in made.modules():
        if hasattr(type(each), RANK_CHECK) and id(each) not in kept:
            vars(each)[RANK_CHECK] = lambda data: None
    return made


class _Shells:
    """Copies by the identity of what they are of."""

    def __init__(self, copies: dict[int, Any]) -> None:
        self._copies = copies
        self._module: Any = sys.modules["torch"].nn.Module

    def copied(self, value: Any) -> Any:
        """What stands for a value in the copy: itself, unless it is a module or a container."""
        if id(value) in self._copies:
            return self._copies[id(value)]
        if isinstance(value, self._module):
            made = self._copies[id(value)] = object.__new__(type(value))
            made.__dict__.update({name: self.copied(held) for name, held in vars(value).items()})
            return made
        if isinstance(value, MethodType):
            return MethodType(value.__func__, self.copied(value.__self__))
        return self._container(value)

    def _container(self, value: Any) -> Any:
        if type(value) is tuple:
            return tuple(map(self.copied, value))
        if type(value) not in CONTAINERS:
            return value
        made = self._copies[id(value)] = value.copy()
        if not value:
            return made  # most of a module's are empty
        if isinstance(value, dict):
            made.update({key: self.copied(held) for key, held in value.items()})
        elif isinstance(value, list):
            made[:] = map(self.copied, value)
        return made


def to_be_run(module: Any) -> Any:
    """A copy of a module with tensors of its own; parameters are shared where they are large.

    Raises whatever a class raises that has no copies.
    """
    torch: Any = sys.modules["torch"]
    parameters = [each for each in _tensors(module) if isinstance(each, torch.nn.Parameter)]
    large = sum(each.numel() * each.element_size() for each in parameters) > MOST_COPIED
    memo: dict[int, Any] = {id(each): each for each in parameters} if large else {}
    for tensor in _tensors(module):
        if id(tensor) not in memo:
            memo[id(tensor)] = _clone(tensor)
    return copy.deepcopy(module, memo)


def _tensors(module: Any) -> Iterator[Any]:
    """Parameters, buffers, and tensors that are plain attributes, which may have no copies."""
    torch: Any = sys.modules["torch"]
    for each in module.modules():
        held = (*each._parameters.values(), *each._buffers.values(), *vars(each).values())
        yield from (tensor for tensor in held if isinstance(tensor, torch.Tensor))


def _clone(tensor: Any) -> Any:
    torch: Any = sys.modules["torch"]
    clone = tensor.detach().clone()
    if isinstance(tensor, torch.nn.Parameter):
        return torch.nn.Parameter(clone, requires_grad=tensor.requires_grad)
    return clone
