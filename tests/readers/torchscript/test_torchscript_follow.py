"""What becomes of tensors in TorchScript code: each case is the code, then the graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bncheck.facts import Unknown
from bncheck.graph import Graph
from bncheck.model import Model

Follow = Callable[..., Model]


def graph_of(model: Model) -> Graph:
    graph = model.facts["graph"]
    assert isinstance(graph, Graph), graph
    return graph


def wiring(model: Model) -> list[str]:
    """The nodes in order, as ``op inputs -> outputs``, and the outputs of the graph."""
    graph = graph_of(model)
    nodes = [" ".join([n.op, *n.inputs, "->", *n.outputs]) for n in graph.nodes]
    return [*nodes, " ".join(["return", *graph.outputs])]


def why_not(model: Model) -> str:
    graph = model.facts["graph"]
    assert isinstance(graph, Unknown), graph
    return graph.why


STRAIGHT = {
    "one after the other": (
        ["y = torch.relu(x)", "z = torch.sigmoid(y)", "return z"],
        ["aten.relu x -> relu", "aten.sigmoid relu -> sigmoid", "return sigmoid"],
    ),
    "names that come again": (
        ["y = torch.relu(torch.relu(x))", "return y"],
        ["aten.relu x -> relu", "aten.relu relu -> relu#2", "return relu#2"],
    ),
    "several outputs": (
        ["a, b = torch.max_pool2d_with_indices(x, [2, 2])", "return a"],
        [
            "aten.max_pool2d_with_indices x -> max_pool2d_with_indices.0 max_pool2d_with_indices.1",
            "return max_pool2d_with_indices.0",
        ],
    ),
    "a list that is unpacked": (
        ["a, b, = torch.chunk(x, 2, 1)", "return torch.add(b, a)"],
        ["aten.chunk x -> chunk.0 chunk.1", "aten.add chunk.1 chunk.0 -> add", "return add"],
    ),
    "a list that is used whole and in part": (
        ["l = torch.chunk(x, 2)", "return torch.add(torch.cat(l), l[0])"],
        [
            "aten.chunk x -> chunk chunk.0",
            "aten.cat chunk -> cat",
            "aten.add cat chunk.0 -> add",
            "return add",
        ],
    ),
    "a tuple and a dictionary": (
        ['d = {"a": (x, 1), "b": x}', 'y = (d["a"])[0]', 'return {"out": y, "aux": d["b"]}'],
        ["return x x"],
    ),
    "numbers are computed, not written down": (
        ["n = torch.add(torch.mul(2, 3), 1)", "return torch.mul(x, n)"],
        ["aten.mul x -> mul", "return mul"],
    ),
    "a shape that is only asserted leaves nothing": (
        ['torch._assert(torch.eq(torch.size(x, 1), 3), "wrong")', "return torch.relu(x)"],
        ["aten.relu x -> relu", "return relu"],
    ),
    "a shape that is used is a value": (
        ["n = torch.mul(torch.size(x, 0), 2)", "return torch.view(x, [n, -1])"],
        ["aten.size x -> x:size", "aten.view x x:size -> view", "return view"],
    ),
    "a number that is taken from a tensor": (
        ["s = float(torch.amax(x))", "return torch.mul(x, torch.add(s, 1))"],
        ["aten.amax x -> amax", "aten.mul x amax -> mul", "return mul"],
    ),
    "an operator of some other library": (
        ["return ops.torchvision.nms(x, x, 0.5)"],
        ["torchvision.nms x x -> nms", "return nms"],
    ),
    "casts, and what does nothing": (
        ["y = unchecked_cast(Tensor, x)", "z = annotate(Tensor, ops.prim.data(y))", "return z"],
        ["return x"],
    ),
    "what runs beside": (
        ["def task():", "  return torch.relu(x)", "f = fork(task)", "return torch.wait(f)"],
        ["aten.relu x -> relu", "return relu"],
    ),
    "a context": (
        ["with torch.no_grad():", "  y = torch.relu(x)", "return y"],
        ["aten.no_grad -> no_grad", "aten.relu x -> relu", "return relu"],
    ),
}


@pytest.mark.parametrize(("lines", "expected"), STRAIGHT.values(), ids=STRAIGHT.keys())
def test_straight_code(follow: Follow, lines: list[str], expected: list[str]) -> None:
    assert wiring(follow(*lines)) == expected


BRANCHES = {
    "a known condition": (
        ["if torch.gt(3, 2):", "  y = torch.relu(x)", "else:", "  y = torch.neg(x)", "return y"],
        ["aten.relu x -> relu", "return relu"],
    ),
    "the mode": (
        ["if self.training:", "  y = torch.relu(x)", "else:", "  y = torch.neg(x)", "return y"],
        ["aten.neg x -> neg", "return neg"],
    ),
    "an unknown condition": (
        [
            "if torch.gt(torch.size(x, 0), 1):",
            "  y = torch.relu(x)",
            "else:",
            "  y = torch.neg(x)",
            "return y",
        ],
        ["aten.relu x -> relu", "aten.neg x -> neg", "prim.If relu neg -> If.0", "return If.0"],
    ),
    "a condition that depends on the data": (
        ["if bool(torch.gt(x, 1)):", "  y = torch.relu(x)", "else:", "  y = x", "return y"],
        ["aten.gt x -> gt", "aten.relu x -> relu", "prim.If gt relu x -> If.0", "return If.0"],
    ),
    "branches that give the same": (
        ["if torch.dim(x):", "  y = x", "  n = 1", "else:", "  y = x", "  n = 2", "return y"],
        ["return x"],
    ),
    "a branch that raises an error": (
        [
            "if torch.ne(torch.dim(x), 4):",
            "  y = torch.neg(x)",
            '  ops.prim.RaiseException("expected 4D")',
            "else:",
            "  y = x",
            "return torch.relu(y)",
        ],
        ["aten.relu x -> relu", "return relu"],
    ),
    "what is changed in one branch": (
        ["if torch.dim(x):", "  y = torch.relu_(x)", "else:", "  pass", "return torch.neg(x)"],
        [
            "aten.relu x -> relu_",
            "prim.If relu_ x -> If.0",
            "aten.neg If.0 -> neg",
            "return neg",
        ],
    ),
    "a list that grows in one branch": (
        [
            "l = [x]",
            "if torch.dim(x):",
            "  _0 = torch.append(l, torch.relu(x))",
            "else:",
            "  pass",
            "return torch.cat(l)",
        ],
        [
            "aten.relu x -> relu",
            "prim.If x relu x -> If.0",
            "aten.cat If.0 -> cat",
            "return cat",
        ],
    ),
    "a value that one branch leaves open": (
        [
            "if torch.dim(x):",
            "  y = torch.relu(x)",
            "else:",
            "  y = uninitialized(Tensor)",
            "return y",
        ],
        ["aten.relu x -> relu", "return relu"],
    ),
    "lists of one length": (
        ["if torch.dim(x):", "  l = [x, 1]", "else:", "  l = [torch.neg(x), 2]", "return l[0]"],
        ["aten.neg x -> neg", "prim.If x neg -> If.0", "return If.0"],
    ),
}


@pytest.mark.parametrize(("lines", "expected"), BRANCHES.values(), ids=BRANCHES.keys())
def test_branches(follow: Follow, lines: list[str], expected: list[str]) -> None:
    assert wiring(follow(*lines)) == expected


LOOPS = {
    "a known number of turns": (
        ["y = x", "for i in range(2):", "  y = torch.mul(y, i)", "return y"],
        ["aten.mul x -> mul", "aten.mul mul -> mul#2", "return mul#2"],
    ),
    "a while loop whose end is known": (
        [
            *("y, i, go = x, 0, True", "while go:"),
            *("  z = torch.neg(y)", "  j = torch.add(i, 1)"),
            *("  go, y, i = torch.lt(j, 2), z, j", "return y"),
        ],
        ["aten.neg x -> neg", "aten.neg neg -> neg#2", "return neg#2"],
    ),
    "an unknown number of turns": (
        ["y = x", "for i in range(torch.size(x, 0)):", "  y = torch.neg(y)", "return y"],
        [
            "prim.Loop x -> Loop.0",
            "aten.neg Loop.0 -> neg",
            "prim.Loop x neg -> Loop#2.0",
            "return Loop#2.0",
        ],
    ),
    "a list that is filled": (
        [
            "l = annotate(List[Tensor], [])",
            "for i in range(torch.size(x, 0)):",
            "  _0 = torch.append(l, torch.select(x, 0, i))",
            "return torch.stack(l)",
        ],
        [
            "prim.Loop -> Loop.0",
            "aten.select x ? -> select#2",
            "aten.append Loop.0 select#2 -> append",
            "prim.Loop append -> Loop#2.0",
            "aten.stack Loop#2.0 -> stack",
            "return stack",
        ],
    ),
    "what is changed in place": (
        ["for i in range(torch.size(x, 0)):", "  y = torch.relu_(x)", "return torch.neg(x)"],
        [
            "prim.Loop x -> Loop.0",
            "aten.relu Loop.0 -> relu_#2",
            "prim.Loop x relu_#2 -> Loop#2.0",
            "aten.neg Loop#2.0 -> neg",
            "return neg",
        ],
    ),
    "numbers alone": (
        [
            "n = 1",
            "for i in range(torch.len(torch.size(x))):",
            "  n = torch.mul(n, i)",
            "return torch.relu(x)",
        ],
        ["aten.relu x -> relu", "return relu"],
    ),
}


@pytest.mark.parametrize(("lines", "expected"), LOOPS.values(), ids=LOOPS.keys())
def test_loops(follow: Follow, lines: list[str], expected: list[str]) -> None:
    assert wiring(follow(*lines)) == expected


IN_PLACE = {
    "the value itself": (
        ["y = torch.relu_(x)", "return torch.neg(x)"],
        ["aten.relu x -> relu_", "aten.neg relu_ -> neg", "return neg"],
    ),
    "a view of it": (
        ["v = torch.view(x, [-1])", "y = torch.relu_(x)", "return torch.neg(v)"],
        [
            "aten.view x -> view",
            "aten.relu x -> relu_",
            "prim.view view relu_ -> view#2",
            "aten.neg view#2 -> neg",
            "return neg",
        ],
    ),
    "through a view": (
        ["v = torch.select(x, 1, 0)", "y = torch.relu_(v)", "return torch.neg(x)"],
        [
            "aten.select x -> select",
            "aten.relu select -> relu_",
            "prim.view x relu_ -> x#2",
            "aten.neg x#2 -> neg",
            "return neg",
        ],
    ),
    "a view that nothing reads any more": (
        ["v = torch.dropout(x, 0.5, False)", "return torch.relu_(v)"],
        ["aten.dropout x -> dropout", "aten.relu dropout -> relu_", "return relu_"],
    ),
    "a view into what it is of": (
        ["y = torch.reshape(x, [-1], out=x)", "return torch.neg(x)"],
        ["aten.reshape x x -> reshape", "aten.neg reshape -> neg", "return neg"],
    ),
    "into what is given": (
        ["y = torch.add(x, 1, out=x)", "return torch.neg(x)"],
        ["aten.add x x -> add", "aten.neg add -> neg", "return neg"],
    ),
}


@pytest.mark.parametrize(("lines", "expected"), IN_PLACE.values(), ids=IN_PLACE.keys())
def test_changes_in_place(follow: Follow, lines: list[str], expected: list[str]) -> None:
    assert wiring(follow(*lines)) == expected


LISTS = {
    "append": (["l = [x]", "_0 = torch.append(l, 5)", "n = l[1]"], 5),
    "insert": (["l = [1, 3]", "_0 = torch.insert(l, 1, 2)", "n = l[1]"], 2),
    "pop": (["l = [1, 2]", "n = torch.pop(l)"], 2),
    "set": (["l = [1, 2]", "_0 = torch._set_item(l, 0, 7)", "n = l[0]"], 7),
    "extend": (["l = [1]", "_0 = torch.extend(l, [4])", "n = l[1]"], 4),
    "add": (["l = torch.add([1], [6])", "n = l[1]"], 6),
    "slice": (["n = (torch.slice([1, 2, 3], 1, 2))[0]"], 2),
    "reverse": (["l = [1, 2]", "_0 = torch.reverse(l)", "n = l[0]"], 2),
    "contains": (["n = int(torch.__contains__([3, 4], 4))"], 1),
    "length": (["n = torch.len([x, x])"], 2),
    "from the end": (["n = ([1, 2])[-1]"], 2),
    "a copy is another list": (
        ["l = [1]", "m = torch.list(l)", "_0 = torch.append(m, 2)", "n = torch.len(l)"],
        1,
    ),
    "keys": (['n = torch.len(torch.keys({"a": x, "b": x}))'], 2),
    "set a key": (['d = {"a": 1}', '_0 = torch._set_item(d, "a", 8)', 'n = d["a"]'], 8),
    "get": (['n = torch.get({"a": 1}, "b", 9)'], 9),
}


@pytest.mark.parametrize(("lines", "number"), LISTS.values(), ids=LISTS.keys())
def test_lists_and_dictionaries(follow: Follow, lines: list[str], number: int) -> None:
    (node,) = graph_of(follow(*lines, "return torch.avg_pool1d(x, [n])")).nodes
    assert node.attributes["kernel_size"] == (number,)


GIVEN = {
    "tensors": ("x: Tensor, y: Tensor", ["return torch.add(x, y)"], ["x", "y"]),
    "a tuple": ("x: Tuple[Tensor, Tensor]", ["a, b, = x", "return b"], ["x.0", "x.1"]),
    "a list": ("x: List[Tensor]", ["return torch.add(x[0], x[2])"], ["x", "x.0", "x.2"]),
    "a dictionary": ("x: Dict[str, Tensor]", ['return x["img"]'], ["x", "x.img"]),
    "a number": ("x: Tensor, n: int", ["return torch.mul(x, n)"], ["x", "n"]),
    "what has a default is not given": (
        "x: Tensor, y: Optional[Tensor]=None",
        ["if torch.__is__(y, None):", "  z = x", "else:", "  z = y", "return z"],
        ["x"],
    ),
}


@pytest.mark.parametrize(("parameters", "lines", "inputs"), GIVEN.values(), ids=GIVEN.keys())
def test_what_a_caller_gives(
    follow: Follow, parameters: str, lines: list[str], inputs: list[str]
) -> None:
    assert list(graph_of(follow(*lines, parameters=parameters)).inputs) == inputs


def test_what_may_be_none_takes_both_branches(follow: Follow) -> None:
    model = follow(
        *("if torch.__isnot__(m, None):", "  m0 = unchecked_cast(Tensor, m)"),
        *("  y = torch.mul(x, m0)", "else:", "  y = x", "return y"),
        parameters="x: Tensor, m: Optional[Tensor]",
    )
    assert wiring(model) == ["aten.mul x m -> mul", "prim.If mul x -> If.0", "return If.0"]


def test_methods_and_functions_are_inlined(follow: Follow) -> None:
    model = follow(
        "return (self).twice(__torch__.third(x, ), )",
        rest="  def twice(self: __torch__.Net,\n    y: Tensor) -> Tensor:\n"
        "    return torch.mul(y, 2)\n"
        "def third(z: Tensor,\n    n: int=3) -> Tensor:\n  return torch.div(z, n)\n",
    )
    assert wiring(model) == ["aten.div x -> div", "aten.mul div -> mul", "return mul"]


def test_an_object_keeps_what_is_set(follow: Follow) -> None:
    model = follow(
        *("p = __torch__.Pair.__new__(__torch__.Pair)", "_0 = (p).__init__(x, )"),
        *("self.last = p.first", "return torch.neg(self.last)"),
        rest="class Pair:\n  first : Tensor\n  def __init__(self: __torch__.Pair,\n"
        "    a: Tensor) -> NoneType:\n    self.first = torch.relu(a)\n    return None\n",
    )
    assert wiring(model) == ["aten.relu x -> relu", "aten.neg relu -> neg", "return neg"]


def test_a_named_tuple_is_a_tuple(follow: Follow) -> None:
    rest = "class Out(NamedTuple):\n  logits : Tensor\n  aux : Tensor\n"
    model = follow("o = __torch__.Out(torch.relu(x), x)", "return (o)[0]", rest=rest)
    assert wiring(model) == ["aten.relu x -> relu", "return relu"]


def test_nodes_and_values_are_named_after_modules(make: Any, archive: Any, read_bytes: Any) -> None:
    inner = make.Call("__torch__.a.___torch_mangle_0.Act", (), {"training": False}, new=True)
    code = {
        "__torch__": "class Net(Module):\n  training : bool\n"
        '  __annotations__["0"] = __torch__.a.___torch_mangle_0.Act\n'
        "  def forward(self: __torch__.Net,\n    x: Tensor) -> Tensor:\n"
        '    _0 = getattr(self, "0")\n    return torch.neg((_0).forward(x, ))\n',
        "__torch__/a/___torch_mangle_0": "class Act(Module):\n  training : bool\n"
        "  def forward(self: __torch__.a.___torch_mangle_0.Act,\n    x: Tensor) -> Tensor:\n"
        "    return torch.relu(x)\n",
    }
    (model,) = read_bytes(archive(code, {"training": False, "0": inner}))
    assert [(n.name, n.outputs) for n in graph_of(model).nodes] == [
        ("0", ("0:relu",)),
        ("", ("neg",)),
    ]


def test_stored_tensors_and_constants_are_parameters(make: Any, follow: Follow) -> None:
    weight, bias = make.tensor("0", (4, 2)), make.tensor("0", (4,))
    model = follow(
        "return torch.linear(x, self.w, CONSTANTS.c1)",
        state={"training": False, "w": weight},
        constants=[None, bias],
        keys=["0"],
        constant_keys=["0"],
    )
    (node,) = graph_of(model).nodes
    held = node.parameters
    assert {role: tensor.shape for role, tensor in held.items()} == {"weight": (4, 2), "bias": (4,)}  # type: ignore[union-attr]
    assert held["weight"].storage != held["bias"].storage  # type: ignore[union-attr]


NOT_FOLLOWED = {
    "a method that is not there": (["return (self).head(x, )"], {}, "no method 'head'"),
    "a function that is not there": (["return __torch__.f(x, )"], {}, "no code for '__torch__.f'"),
    "a constant that is not there": (["return CONSTANTS.c0"], {}, "no constant 'c0'"),
    "a call of a number": (["y = 1", "return y(x)"], {}, "not known"),
    "too many arguments": (["return (self).forward(x, x, )"], {}, "too many arguments"),
    "too few arguments": (["return (self).forward()"], {}, "without 'x'"),
    "an index out of range": (["return ([x])[1]"], {}, "out of range"),
    "too few items": (["a, b, = [x]", "return a"], {}, "as many items"),
    "a recursion": (["return (self).forward(x, )"], {}, "nests calls"),
    "an error in any case": (['ops.prim.RaiseException("no")'], {}, "raises an error"),
    "a return within a branch": (
        ["if torch.dim(x):", "  return x", "else:", "  pass"],
        {},
        "returns",
    ),
    "hooks": (
        ["return (self).forward(x, )"],
        {"declared": '  __forward_hooks__ = ["h", ]\n'},
        "has hooks",
    ),
    "code that is no code": (["return x + 1"], {}, "'+'"),
    "a class that is there twice": (["return x"], {"rest": "class Net:\n  pass\n"}, "twice"),
}


@pytest.mark.parametrize(
    ("lines", "more", "why"),
    NOT_FOLLOWED.values(),
    ids=NOT_FOLLOWED.keys(),
)
def test_code_that_is_not_followed_says_why(
    follow: Follow, lines: list[str], more: dict[str, Any], why: str
) -> None:
    assert why in why_not(follow(*lines, **more))
