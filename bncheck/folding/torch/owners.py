"""Which module holds a parameter that a trace shows, and whether it may change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bncheck.folding.reasons import Reason
from bncheck.graph import Node, NodeKind
from bncheck.readers.module_tree import HOOKS
from bncheck.tensor import Tensor

Place = tuple[Any, str]  # a module, and the name under which it holds a tensor


class Owners:
    """The tensors of a module by storage, its submodules by path."""

    def __init__(self, module: Any) -> None:
        self.modules: Mapping[str, Any] = dict(module.named_modules(remove_duplicate=False))
        self._places: dict[int, list[Place]] = {}
        for owner in module.modules():
            for name, tensor in (*owner._parameters.items(), *owner._buffers.items()):
                if tensor is not None:
                    key = int(tensor.untyped_storage().data_ptr())
                    self._places.setdefault(key, []).append((owner, name))

    def place(self, tensor: Tensor) -> Place | None:
        """The one place that holds a tensor whole; None where it has none, or several."""
        places = self._places.get(tensor.storage, []) if isinstance(tensor.storage, int) else []
        whole = len(places) == 1 and tuple(getattr(*places[0]).shape) == tensor.shape
        return places[0] if whole else None

    def objection(self, node: Node) -> Reason | None:
        """Why a node of a trace cannot change or go; None where it can.

        A node that is no module is a line of code. Its parameters can change, but it cannot go.
        """
        module = self.modules.get(node.name) if node.name else None
        if module is not None and any(vars(module).get(hooks) for hooks in HOOKS):
            return Reason.HOOKED
        if node.kind is NodeKind.BATCH_NORM:
            return None if module is not None else Reason.FUNCTIONAL
        held = [each for each in node.parameters.values() if isinstance(each, Tensor)]
        if not held or node.kind in (NodeKind.ADD, NodeKind.MUL):
            return Reason.FUNCTIONAL
        return None if all(map(self.place, held)) else Reason.SHARED

    def bias_of(self, node: Node) -> Place | None:
        """Where a node's bias is held, or can be put."""
        bias = node.parameters.get("bias")
        if isinstance(bias, Tensor):
            return self.place(bias)
        module = self.modules.get(node.name) if node.name else None
        free = module is not None and "bias" in module._parameters and module.bias is None
        return (module, "bias") if free else None
