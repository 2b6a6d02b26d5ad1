"""The order that a module tree proves: inside an exact torch Sequential, one after the other.

A subclass of Sequential may have a forward of its own, and any other container runs its children
as it likes: about those nothing is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bncheck.facts import Unknown
from bncheck.graph import Graph, Node, NodeKind
from bncheck.readers.module_tree import ModuleRecord, Tree
from bncheck.tensor import Tensor

TORCH_MODULES = "torch.nn.modules."
SEQUENTIAL = TORCH_MODULES + "container.Sequential"
_WINDOW = ("kernel_size", "stride", "dilation", "padding", "output_padding")
_ROLES = ("weight", "bias", "running_mean", "running_var")
_KINDS = {
    "conv.Conv1d": NodeKind.CONV,
    "conv.Conv2d": NodeKind.CONV,
    "conv.Conv3d": NodeKind.CONV,
    "conv.ConvTranspose1d": NodeKind.CONV_TRANSPOSE,
    "conv.ConvTranspose2d": NodeKind.CONV_TRANSPOSE,
    "conv.ConvTranspose3d": NodeKind.CONV_TRANSPOSE,
    "linear.Linear": NodeKind.LINEAR,
    "linear.Identity": NodeKind.IDENTITY,
    "batchnorm.BatchNorm1d": NodeKind.BATCH_NORM,
    "batchnorm.BatchNorm2d": NodeKind.BATCH_NORM,
    "batchnorm.BatchNorm3d": NodeKind.BATCH_NORM,
    "batchnorm.SyncBatchNorm": NodeKind.BATCH_NORM,
    "instancenorm.InstanceNorm1d": NodeKind.INSTANCE_NORM,
    "instancenorm.InstanceNorm2d": NodeKind.INSTANCE_NORM,
    "instancenorm.InstanceNorm3d": NodeKind.INSTANCE_NORM,
    "normalization.GroupNorm": NodeKind.GROUP_NORM,
    "normalization.LayerNorm": NodeKind.LAYER_NORM,
    "normalization.RMSNorm": NodeKind.RMS_NORM,
    "activation.ReLU": NodeKind.RELU,
    "dropout.Dropout": NodeKind.DROPOUT,
    "dropout.Dropout2d": NodeKind.DROPOUT,
    "dropout.Dropout3d": NodeKind.DROPOUT,
}


def torch_class(path: str) -> str:
    """The path below torch.nn.modules of a class of PyTorch's own; empty for any other class."""
    return path.removeprefix(TORCH_MODULES) if path.startswith(TORCH_MODULES) else ""


def fragments(modules: Tree) -> tuple[Graph, dict[int, tuple[Node, ...]]]:
    """The chains as one incomplete graph, and the calls of each module by its identity."""
    nodes: list[Node] = []
    inputs: list[str] = []
    outputs: list[str] = []
    calls: dict[int, tuple[Node, ...]] = {}
    for name, chain in _chains(modules):
        value = f"{name}:in"
        inputs.append(value)
        for place, record in chain:
            node = _node(place, record, value)
            nodes.append(node)
            if not modules.is_shared(record):
                calls[record.identity] = (node,)
            (value,) = node.outputs
        outputs.append(value)  # whatever reads it is not known
    return Graph(tuple(nodes), tuple(inputs), tuple(outputs), complete=False), calls


def _chains(modules: Tree) -> Iterator[tuple[str, list[tuple[str, ModuleRecord]]]]:
    """Each outermost Sequential with its leaves in order, nested Sequentials unrolled."""
    nested: set[int] = set()
    for name, record in modules.places.items():
        if record.class_path != SEQUENTIAL or record.identity in nested:
            continue
        if modules.is_shared(record) or record.is_rewired:
            continue
        yield name, list(_leaves(name, record, modules, nested))


def _leaves(
    name: str, sequential: ModuleRecord, modules: Tree, nested: set[int]
) -> Iterator[tuple[str, ModuleRecord]]:
    stack = [(name, sequential)]
    while stack:
        place, record = stack.pop()
        if record.class_path != SEQUENTIAL or modules.is_shared(record) or record.is_rewired:
            yield place, record
            continue
        nested.add(record.identity)
        children = reversed([*record.children.items()])
        stack.extend((f"{place}.{n}" if place else n, child) for n, child in children)


def _node(name: str, record: ModuleRecord, value: str) -> Node:
    kind = _KINDS.get(torch_class(record.class_path), NodeKind.OPAQUE)
    return Node(
        kind=NodeKind.OPAQUE if record.is_rewired else kind,
        op=record.class_path.rpartition(".")[2],
        name=name,
        inputs=(value,),
        outputs=(f"{name}:out",),
        parameters=_parameters(record),
        attributes=_attributes(record.attributes),
    )


def _parameters(record: ModuleRecord) -> Mapping[str, Tensor | Unknown]:
    held = ((role, record.lookup(role)) for role in _ROLES)
    return {role: found.tensor for role, found in held if found is not None}


def _attributes(attributes: Mapping[str, object]) -> Mapping[str, object]:
    wanted = ("eps", "momentum", "training", "p", "groups")
    held = {name: attributes[name] for name in wanted if name in attributes}
    plain = {n: value for n, value in held.items() if isinstance(value, int | float | None)}
    return {**plain, **_window(attributes)}


def _window(attributes: Mapping[str, object]) -> Mapping[str, object]:
    """Of a convolution; its padding only where it is one of zeros."""
    held = {name: attributes.get(name) for name in _WINDOW}
    padding, kernel = held["padding"], held["kernel_size"]
    if padding == "valid" and isinstance(kernel, tuple):
        held["padding"] = (0,) * len(kernel)
    elif attributes.get("padding_mode", "zeros") != "zeros":
        del held["padding"]
    return {n: value for n, value in held.items() if value == "same" or _are_sizes(value)}


def _are_sizes(value: object) -> bool:
    return isinstance(value, tuple) and all(type(each) is int for each in value)
