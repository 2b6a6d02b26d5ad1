"""The part of Python's syntax in which TorchScript code is written."""

from __future__ import annotations

from typing import Any

import pytest

from bncheck.readers.torchscript.expressions import expression, literal
from bncheck.readers.torchscript.functions import DEEPEST, LONGEST_LINE, MOST_TOKENS, Parser
from bncheck.readers.torchscript.program import (
    Assign,
    Attribute,
    Define,
    Evaluate,
    Expression,
    Gather,
    If,
    Invoke,
    Load,
    Loop,
    Push,
    Return,
    Section,
    SetAttribute,
    Subscript,
    Unclear,
    With,
)
from bncheck.readers.torchscript.tokens import Tokenizer


def parsed(text: str) -> str:
    return shown(expression(Tokenizer().tokens(text)))


def shown(steps: Expression) -> str:
    """Postfix in words, such as ``x y call2``."""
    return " ".join(map(_word, steps))


def _word(step: Any) -> str:
    match step:
        case Load(name):
            return str(name)
        case Push(value):
            return repr(value)
        case Attribute(name):
            return f".{name}"
        case Invoke(count, keywords):
            return f"call{count}" + "".join(f":{keyword}" for keyword in keywords)
        case Gather(container, count):
            return f"{container.__name__}{count}"
        case Subscript():
            return "item"
        case Section():
            return "section"
    raise TypeError(step)


EXPRESSIONS = {
    "x": "x",
    "torch.add(x, 1)": "torch .add x 1 call2",
    "(self.bn).forward((conv).forward(x, ), )": "self .bn .forward conv .forward x call1 call1",
    "f()": "f call0",
    "torch.mean(x, [2, -1], True, dtype=None)": ("torch .mean x 2 -1 list2 True None call4:dtype"),
    'getattr(self, "0")': "getattr self '0' call2",
    "(torch.size(x))[0]": "torch .size x call1 0 item",
    "(t)[1:3]": "t 1 3 section",
    "annotate(Dict[str, Tensor], {})": "annotate Dict str Tensor tuple2 item dict0 call2",
    '{"a": x, "b": y, }': "'a' x 'b' y dict4",
    "(1,)": "1 tuple1",
    "()": "tuple0",
    "((x))": "x",
    "[]": "list0",
    "[1., 1e-05, -2.5E+3, 9223372036854775807]": "1.0 1e-05 -2500.0 9223372036854775807 list4",
    "[inf, -inf, -nan, 2.j]": "inf -inf nan 2j list4",
    r'"a\"b\n\303\\"': "'a\"b\\nÃ\\\\'",
}


@pytest.mark.parametrize(("text", "steps"), EXPRESSIONS.items(), ids=EXPRESSIONS.keys())
def test_an_expression_is_a_row_of_steps(text: str, steps: str) -> None:
    assert parsed(text) == steps


NO_EXPRESSIONS = {
    "nothing": "",
    "an open bracket": "f(x",
    "a bracket of another kind": "f(x]",
    "two names": "x y",
    "an operator": "x + y",
    "a minus": "x-1",
    "a lambda": "lambda: x",
    "an empty subscript": "x[]",
    "a section with a comma": "x[1:2, 3]",
    "a key without a value": '{"a"}',
    "an argument without a name behind one with": "f(a=x, y)",
    "an argument named twice": "f(a=x, a=y)",
    "a name for a name": "f(a=b=x)",
    "a name without an argument": "f(a=)",
    "an assignment in brackets": "(a=x)",
    "a comma outside": "x, y",
    "only a comma": "(,)",
    "a colon in a call": "f(a: b)",
    "an open string": '"abc',
    "a string with an escaped end": r'"abc\"',
    "a letter beyond ASCII": "é",
    "another script's letters and digits": "x\u0660",
    "a control character": "\0",
    "too many digits": "9" * 100,
    "brackets beyond measure": "(" * 5000 + ")" * 5000,
}


@pytest.mark.parametrize("text", NO_EXPRESSIONS.values(), ids=NO_EXPRESSIONS.keys())
def test_what_is_no_expression_is_refused(text: str) -> None:
    with pytest.raises(Unclear):
        parsed(text)


def test_a_constant_of_a_class_is_a_literal() -> None:
    assert literal(expression(Tokenizer().tokens('[(1, 2.5), "a", None]'))) == [(1, 2.5), "a", None]
    for computed in ("f()", "x", "{}"):
        with pytest.raises(Unclear, match="computed"):
            literal(expression(Tokenizer().tokens(computed)))


FUNCTION = """\
  def forward(self: __torch__.a.___torch_mangle_3.Net,
    x: Tensor,
    sizes: List[int]=[1, 2],
    flag: Optional[bool]=None) -> Tuple[Tensor, Tensor]:
    a, b, = x
    c, d = a, b
    e : Tensor = c
    self.count = 3
    print(e)
    if flag:
      pass
    else:
      y = e
    for i in range(torch.len(sizes)):
      while i:
        z = i
    with self.guard as g:
      w = g
    def task():
      return x
    return (a, b)
"""


def test_a_function_has_parameters_and_statements() -> None:
    function = Parser().function(FUNCTION)
    annotations = [(p.name, p.annotation) for p in function.parameters[1:]]
    assert annotations == [("x", "Tensor"), ("sizes", "List[int]"), ("flag", "Optional[bool]")]
    defaults = [p.default and shown(p.default) for p in function.parameters]
    assert defaults == [None, None, "1 2 list2", "None"]
    kinds = [type(statement) for statement in function.body]
    assert kinds == [
        *(Assign, Assign, Assign, SetAttribute, Evaluate),
        *(If, Loop, With, Define, Return),
    ]


def test_blocks_are_what_is_indented() -> None:
    branch, outer, context, task = Parser().function(FUNCTION).body[5:9]
    assert isinstance(branch, If)
    assert branch.then == []
    assert [type(each) for each in branch.otherwise] == [Assign]
    assert isinstance(outer, Loop)
    assert (outer.name, shown(outer.over)) == ("i", "torch .len sizes call1")
    (inner,) = outer.body
    assert isinstance(inner, Loop)
    assert (inner.name, shown(inner.over)) == (None, "i")
    assert isinstance(context, With)
    assert (context.name, len(context.body)) == ("g", 1)
    assert isinstance(task, Define)
    assert [type(each) for each in task.function.body] == [Return]


def test_an_assignment_unpacks_where_it_has_several_names_or_a_comma() -> None:
    unpacked, together, plain = Parser().function(FUNCTION).body[:3]
    assert isinstance(unpacked, Assign)
    assert (unpacked.names, unpacked.unpack, shown(unpacked.value)) == (("a", "b"), True, "x")
    assert isinstance(together, Assign)
    assert (together.unpack, shown(together.value)) == (True, "a b tuple2")
    assert isinstance(plain, Assign)
    assert (plain.names, plain.unpack) == (("e",), False)


NO_FUNCTIONS = {
    "no body": "def f(",
    "no name": "def (x):\n  pass",
    "a class": "class X:\n  pass",
    "a body that is not indented": "def f():\nreturn 1",
    "a body that is indented too much": "def f():\n    return 1",
    "an else without an if": "def f():\n  else:\n    pass",
    "a second else": "def f():\n  if x:\n    pass\n  else:\n    y = x\n  else:\n    pass",
    "an if without a colon": "def f():\n  if x\n    pass",
    "a loop over a list": "def f():\n  for i in x:\n    pass",
    "an assignment to a call": "def f():\n  g(x) = y",
    "an assignment to nothing": "def f():\n  = y",
    "an assignment of nothing": "def f():\n  y =",
    "two assignments": "def f():\n  x = y = z",
    "blocks beyond measure": "def f():\n"
    + "".join("  " * (i + 1) + "if x:\n" for i in range(DEEPEST + 1)),
    "a line beyond measure": "def f():\n  x = " + "y" * LONGEST_LINE,
}


@pytest.mark.parametrize("text", NO_FUNCTIONS.values(), ids=NO_FUNCTIONS.keys())
def test_what_is_no_function_is_refused(text: str) -> None:
    with pytest.raises(Unclear):
        Parser().function(text)


def test_functions_share_one_budget_of_tokens() -> None:
    parser = Parser()
    lines = "".join(f"  x{i} = f(y{i})\n" for i in range(MOST_TOKENS // 10))
    parser.function(f"def g():\n{lines}")
    with pytest.raises(Unclear, match="tokens"):
        parser.function(f"def h():\n{lines.replace('x', 'z')}")


def test_methods_that_differ_in_numbers_of_classes_alone_are_parsed_once() -> None:
    parser = Parser()
    again = FUNCTION.replace("mangle_3", "mangle_77")
    assert parser.function(FUNCTION) is parser.function(again)
    assert parser.function(FUNCTION) is not parser.function(FUNCTION.replace("[1, 2]", "[1, 3]"))
