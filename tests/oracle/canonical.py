"""One form for the graph of a network, however the network was saved.

Exporters write one thing in several ways. These are contracted, and nothing else:

* nothing at all: IDENTITY; DROPOUT that is not active; what reads a shape; what no output depends
  on. What does not depend on the input is a constant, which one exporter computes and another
  writes down;
* a bias of zeros is none; so are the ones and zeros of a normalization without an affine part;
* CONV, AVERAGE_POOL: the zeros that are padded before it are its own padding;
* LINEAR: a product with a matrix, and the constant that is added to it;
* ADD: a factor on the second operand is a MUL of its own;
* SPLIT: each part is a step of its own;
* AVERAGE_POOL that drops the axes of space: one that keeps them, and a RESHAPE;
* RESHAPE: several in a row that leave the elements in their order are one, and so are several
  that do not;
* ACTIVATION: any function of one value, also where it is written as arithmetic with numbers;
* GROUP_NORM: exporters to ONNX write an InstanceNormalization of groups in place of channels, and
  a MUL and an ADD after it.
"""

from __future__ import annotations

import hashlib
from array import array

from step_graph import COMMUTING, Step, StepGraph

from bncheck.graph import Graph, Node, NodeKind
from bncheck.tensor import Tensor

LINEAR = frozenset({NodeKind.CONV, NodeKind.CONV_TRANSPOSE, NodeKind.LINEAR})
OF_CONV = ("stride", "dilation", "padding")  # the size is that of the weight
WINDOW = ("kernel_size", *OF_CONV)
COMPARED: dict[NodeKind, tuple[str, ...]] = {
    NodeKind.CONV: ("groups", *OF_CONV),
    NodeKind.CONV_TRANSPOSE: ("groups", *OF_CONV, "output_padding"),
    NodeKind.BATCH_NORM: ("eps", "training"),
    NodeKind.INSTANCE_NORM: ("eps", "use_input_stats"),
    NodeKind.GROUP_NORM: ("eps", "num_groups"),
    NodeKind.LAYER_NORM: ("eps", "axis"),
    NodeKind.RMS_NORM: ("eps", "axis"),
    NodeKind.ADD: ("subtract", "reversed", "alpha"),
    NodeKind.MUL: ("divide", "reversed"),
    NodeKind.MAX_POOL: (*WINDOW, "ceil_mode", "output_size"),
    NodeKind.AVERAGE_POOL: (*WINDOW, "ceil_mode", "count_include_pad", "output_size", "axes"),
    NodeKind.RESIZE: ("mode",),
    NodeKind.PAD: ("mode", "value", "axes", "padding"),
    NodeKind.CONCAT: ("axis",),
}
CONSTANT = "constant"


def canonical(graph: Graph) -> StepGraph:
    """The contracted graph."""
    made = StepGraph(*_steps(graph))
    for contract in CONTRACTIONS:
        contract(made)
        made.put_in_order()
    return made


def _steps(graph: Graph) -> tuple[list[Step], list[tuple[Step, int]]]:
    steps = [Step(f"input {number}") for number, _ in enumerate(graph.inputs)]
    made = {value: (step, 0) for value, step in zip(graph.inputs, steps, strict=True)}
    for node in graph.nodes:
        outputs = [value for value in node.outputs if graph.depends_on_input(value)]
        if node.kind is NodeKind.SHAPE or not outputs:
            continue
        sources = [made[value] for value in node.inputs if value in made]
        if _passes_on(node):
            made[node.outputs[0]] = sources[0]
            continue
        steps.append(Step(str(node.kind), _facts(node, len(sources)), sources, node))
        made.update((value, (steps[-1], port)) for port, value in enumerate(node.outputs))
    return steps, [made[value] for value in graph.outputs if value in made]


def _passes_on(node: Node) -> bool:
    dropout = node.kind is NodeKind.DROPOUT and not node.attributes.get("training")
    return node.kind is NodeKind.IDENTITY or dropout


def _facts(node: Node, sources: int) -> dict[str, object]:
    compared = (name for name in COMPARED.get(node.kind, ()) if name in node.attributes)
    facts = {name: node.attributes[name] for name in compared}
    for role, held in node.parameters.items():
        if not _is_trivial(node, role, held):
            facts[role] = _parameter(node, held)
    if node.kind in COMMUTING and sources == 1 and not node.parameters:
        facts["bias" if node.kind is NodeKind.ADD else "weight"] = CONSTANT
    return facts


def _is_trivial(node: Node, role: str, held: object) -> bool:
    """What some exporters write where others write nothing."""
    if not isinstance(held, Tensor) or node.kind in COMMUTING:
        return False
    filled_in = node.kind in LINEAR and role == "bias"
    filled_in |= node.kind in (NodeKind.INSTANCE_NORM, NodeKind.LAYER_NORM)
    return filled_in and held.all_equal(float(role == "weight"))


def _parameter(node: Node, held: object) -> str:
    if not isinstance(held, Tensor):
        return CONSTANT
    if node.kind in COMMUTING:
        return f"{held.values[0]:.6g}" if held.numel == 1 else CONSTANT
    is_matrix = node.kind is NodeKind.LINEAR and len(held.shape) == 2
    flipped = is_matrix and not node.attributes.get("transB")
    shape = held.shape[::-1] if flipped else held.shape
    values = array("f", sorted(held.values) if is_matrix else held.values)
    return f"{list(shape)}:{hashlib.sha1(values.tobytes()).hexdigest()[:8]}"


def _factors(graph: StepGraph) -> None:
    for step in graph.steps:
        factor = step.facts.pop("alpha", None) if step.kind == NodeKind.ADD else None
        if factor is not None and len(step.sources) == 2:
            multiplied = Step(NodeKind.MUL, {"weight": f"{factor:.6g}"}, [step.sources[1]])
            step.sources[1] = (multiplied, 0)


def _parts(graph: StepGraph) -> None:
    for step in graph.steps:
        if step.kind != NodeKind.SPLIT or step.node is None:
            continue
        parts: dict[int, Step] = {}
        for holder in (*step.readers, graph):
            held = holder.sources if isinstance(holder, Step) else holder.results
            for position, (source, port) in enumerate(held):
                if source is step:
                    part = Step("part", _part(step.node, port), step.sources)
                    held[position] = (parts.setdefault(port, part), 0)


def _part(node: Node, port: int) -> dict[str, object]:
    """The axis, and whether it is its beginning: how long parts are is not known everywhere."""
    match node.attributes:
        case {"axes": (int(axis),), "starts": (int(start),)}:
            return {"axis": axis, "first": start == 0}
        case {"axes": (int(axis),)}:  # begins somewhere, as is computed
            return {"axis": axis, "first": False}
        case {"axis": int(axis), "index": int(index)}:
            return {"axis": axis, "first": index == 0, "loses": True}
        case {"axis": int(axis)} if "indices" not in node.attributes:
            return {"axis": axis, "first": port == 0}
    return dict(node.attributes)


def _reshapes(graph: StepGraph) -> None:
    for step in graph.steps:
        if step.kind == NodeKind.RESHAPE and step.node is not None:
            attributes = step.node.attributes
            order = attributes.keys() & {"perm", "dim0"}
            shuffle = attributes.keys() & {"upscale_factor", "downscale_factor", "groups"}
            step.kind = "permute" if order else "shuffle" if shuffle else "reshape"
            step.facts = dict(attributes) if shuffle else {}
        pools = step.kind == NodeKind.AVERAGE_POOL and step.node is not None
        if pools and step.node.attributes.get("keepdim") is False:
            dropped = Step("reshape")
            graph.replace(step, dropped)
            dropped.sources = [(step, 0)]


def _reshapes_in_a_row(graph: StepGraph) -> None:
    for step in graph.steps:
        while step.kind in ("reshape", "permute") and step.sources[0][0].kind == step.kind:
            step.sources = step.sources[0][0].sources


def _padding(graph: StepGraph) -> None:
    for step in graph.steps:
        sides = step.facts.get("padding")
        if step.kind not in (NodeKind.CONV, NodeKind.AVERAGE_POOL) or not isinstance(sides, tuple):
            continue
        rank = len(step.facts["stride"])
        sides = sides * 2 if len(sides) == rank else sides
        before = step.sources[0][0]
        if before.kind == NodeKind.PAD and _pads_space(before, rank):
            sides = tuple(map(sum, zip(sides, before.facts["padding"], strict=True)))
            step.sources[0] = before.sources[0]
            step.facts["count_include_pad"] = True
        if step.kind == NodeKind.CONV or not any(sides):
            step.facts.pop("count_include_pad", None)
        step.facts["padding"] = sides


def _pads_space(step: Step, rank: int) -> bool:
    axes = tuple(range(-rank, 0))
    return [step.facts.get(n) for n in ("mode", "value", "axes")] == ["constant", 0, axes]


def _added_bias(graph: StepGraph) -> None:
    for step in graph.steps:
        if step.kind != NodeKind.ADD or step.facts.keys() != {"bias"} or step.node is None:
            continue
        (product, _), *others = step.sources
        if others or product.kind != NodeKind.LINEAR or "bias" in product.facts:
            continue
        bias = step.node.parameters.get("bias")
        if graph.only_reader(product) is step and isinstance(bias, Tensor):
            if not bias.all_equal(0) and product.node is not None:
                product.facts["bias"] = _parameter(product.node, bias)
            graph.replace(step, product)


def _functions(graph: StepGraph) -> None:
    """Each step of arithmetic on one value is a function of what that was before all of them."""
    roots: dict[int, tuple[Step, int]] = {}
    for step in graph.steps:
        if not _is_arithmetic(step):
            continue
        origins = {roots.get(id(source), (source, port)) for source, port in step.sources}
        if len(origins) != 1:
            continue
        (root,) = origins
        roots[id(step)] = root
        if step.sources != [root] or "reversed" in step.facts:
            step.kind, step.facts, step.sources = str(NodeKind.ACTIVATION), {}, [root]


def _is_arithmetic(step: Step) -> bool:
    if step.kind in (NodeKind.ACTIVATION, NodeKind.RELU):
        step.facts = {}
        return True
    constants = (step.facts.get(role, "") for role in ("weight", "bias"))
    return step.kind in COMMUTING and CONSTANT not in constants


def _group_norms(graph: StepGraph) -> None:
    for step in graph.steps:
        chain = [step]
        for kind in (NodeKind.INSTANCE_NORM, "reshape", NodeKind.MUL, NodeKind.ADD):
            after = graph.only_reader(chain[-1])
            if after is not None and after.kind == kind and len(after.sources) == 1:
                chain.append(after)
        if step.kind == "reshape" and len(chain) == 5:
            _, norm, _, scale, shift = chain
            graph.replace(shift, step)
            step.kind, step.facts = str(NodeKind.GROUP_NORM), _affine(norm, scale, shift)
            step.node = norm.node


def _affine(norm: Step, scale: Step, shift: Step) -> dict[str, object]:
    groups, weight, bias = (
        each.node.parameters.get(role) if each.node is not None else None
        for each, role in ((norm, "weight"), (scale, "weight"), (shift, "bias"))
    )
    facts = {"eps": norm.facts["eps"], "num_groups": getattr(groups, "numel", None)}
    return {**facts, "weight": _flat(weight), "bias": _flat(bias)}


def _flat(held: object) -> str:
    if not isinstance(held, Tensor):
        return CONSTANT
    values = array("f", held.values)
    return f"[{held.numel}]:{hashlib.sha1(values.tobytes()).hexdigest()[:8]}"


CONTRACTIONS = (
    _factors,
    _parts,
    _reshapes,
    _reshapes_in_a_row,
    _padding,
    _added_bias,
    _functions,
    _group_norms,
)
