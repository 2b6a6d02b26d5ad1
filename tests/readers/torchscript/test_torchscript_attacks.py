"""Archives that are written to harm: each is refused, or read, in little time and memory."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from bncheck.errors import UnreadableModel
from bncheck.facts import Unknown
from bncheck.model import Model
from bncheck.readers import read

SECONDS = 4.0  # of the processor, on a machine that is busy otherwise; 2 on an idle one
MEBIBYTES = 200
MANY = 100_000
HEAD = "class Net(Module):\n  def forward(self: __torch__.Net,\n    x: Tensor) -> Tensor:\n"


def lines(*code: str) -> str:
    return HEAD + "".join(f"    {line}\n" for line in code)


def nested(head: str, depth: int, *body: str) -> str:
    """Blocks in blocks, and a body in the innermost."""
    heads = ("  " * level + head for level in range(depth))
    return lines(*heads, *("  " * depth + line for line in body))


def calls(body: str, depth: int = 60) -> str:
    """A chain of functions, each of which calls the next as ``body`` says."""
    chain = "".join(
        f"def f{i}(x: Tensor) -> Tensor:\n  return {body.format(f=f'__torch__.f{i + 1}')}\n"
        for i in range(depth)
    )
    last = f"def f{depth}(x: Tensor) -> Tensor:\n  return torch.relu(x)\n"
    return lines("return __torch__.f0(x, )") + chain + last


ATTACKS: dict[str, str | Mapping[str, str]] = {
    "brackets": lines("y = " + "(" * MANY + "x" + ")" * MANY),
    "lists in lists": lines("y = " + "[" * MANY),
    "subscripts": lines("y = x" + "[0]" * (MANY // 2)),
    "attributes": lines("y = torch" + ".a" * MANY),
    "blocks": nested("if x:", 3000, "pass"),
    "a long number": lines("y = " + "9" * MANY),
    "many long numbers": lines(*["y = " + "9" * 60] * MANY),
    "an open string of escapes": lines('y = "' + r"\"" * MANY),
    "quotes": lines("y = " + '"' * MANY),
    "minus signs": lines("y = " + "-" * MANY + "1"),
    "arguments": lines(*["y = torch.relu(" + "x, " * 8000 + ")"] * 100),
    "named arguments": lines(f"y = torch.relu({', '.join(f'a{i}=x' for i in range(20_000))})"),
    "parameters": HEAD.replace("x: Tensor", ", ".join(f"x{i}: Tensor" for i in range(15_000))),
    "types in types": HEAD.replace("x: Tensor", "x: " + "Tuple[" * 9000 + "int" + "]" * 9000),
    "recursion": lines("return (self).forward(x, )"),
    "deep calls": calls("{f}(x, )", 20_000),
    "exponential calls": calls("{f}({f}(x, ), )"),
    "exponential closures": lines(
        *(line for i in range(400) for line in (f"def g{i}():", f"  return g{i - 1}()")),
        "return g399()",
    ),
    "exponential lists": lines(
        "a0 = [x, x]", *(f"a{i + 1} = [a{i}, a{i}]" for i in range(60)), "return torch.cat(a60)"
    ),
    "exponential lists on two paths": lines(
        *("a0 = (1, 2)", *(f"a{i + 1} = (a{i}, a{i})" for i in range(60))),
        *("if x:", "  b = a60", "else:", "  b = (a59, a59)", "return b"),
    ),
    "large lists, often": lines(
        *("a0 = [x, x]", *(f"a{i + 1} = [a{i}, a{i}]" for i in range(15))),
        *(f"b{i} = torch.cat(a15)" for i in range(1000)),
    ),
    "items of items": lines("a0 = x[0]", *(f"a{i + 1} = a{i}[0]" for i in range(30_000))),
    "loops in loops": nested("for i in range(64):", 40, "y = torch.relu(x)"),
    "unknown loops in loops": nested("while x:", 60, "y = torch.relu_(x)"),
    "branches in branches": nested("if x:", 90, *(f"y{i} = torch.relu_(x)" for i in range(5000))),
    "many branches": lines(
        *["if x:", "  y = torch.relu(x)", "else:", "  y = torch.neg(x)"] * 20_000, "return y"
    ),
    "many errors": lines(*["if x:", '  ops.prim.RaiseException("a")', "else:", "  pass"] * 12_000),
    "many nodes": lines(*["y = torch.relu(x)"] * MANY),
    "many changes in place": lines(*["y = torch.relu_(x)"] * MANY),
    "views of one tensor": lines(
        *(f"v{i} = torch.view(x, [1])" for i in range(3000)),
        *(f"w{i} = torch.relu_(v{i})" for i in range(3000)),
        "return torch.add(v0, x)",
    ),
    "a list that grows": lines(
        "l = [x]", *["_0 = torch.append(l, torch.cat(l, 1))"] * 3000, "return torch.cat(l)"
    ),
    "numbers that collide": lines(
        "d = {" + ", ".join(f"{i * (2**61 - 1)}: x" for i in range(9000)) + "}", "return d[0]"
    ),
    "a format that pads": lines('y = torch.remainder("%999999999d", 5)'),
    "a list times a number": lines("y = torch.mul([1], 1000000000)"),
    "a power": lines("y = torch.pow(10, 1000000000)", "z = torch.__lshift__(1, 1000000000)"),
    "a string times a number": lines('y = torch.add(1, "aaaaaaaa", 1000000000)'),
    "long names": nested("for i in range(64):", 3, f"y = torch.{'a' * MANY}(x)"),
    "a fork of nothing": lines("y = fork()"),
    "slices that cannot be": lines(
        "y = torch.slice([1], 0, 1, 0)", "z = torch.slice([1], 1, 2, 3, 4)"
    ),
    "much unpacked, often": lines(
        *[", ".join(f"a{i}" for i in range(9000)) + ", = x"] * 50, "return a0"
    ),
    "squares of squares": lines("y = 3", *["y = torch.mul(y, y)"] * 100),
    "empty lines": HEAD + "\n" * 8_000_000 + "    return x\n",
    "a bomb": HEAD + "    y = 1\n" * 10_000_000,
    "many functions": "".join(f"def f{i}():\n  pass\n" for i in range(300_000)),
    "a long constant": f"class Net(Module):\n  a : Final[int] = [{'1, ' * 80_000}]\n"
    + lines("y = 1"),
    "a deep constant": "class Net(Module):\n  a : Final[int] = " + "[" * MANY + "\n",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("attacks")


@pytest.mark.parametrize("name", ATTACKS)
def test_no_code_takes_long(name: str, archive: Callable[..., bytes], folder: Path) -> None:
    path = folder / f"{name}.pt"
    path.write_bytes(archive(ATTACKS[name]))
    began = time.process_time()
    (model,) = read(path)
    assert time.process_time() - began < SECONDS
    assert model.layers == ()


READ_ALL = """
import sys
from bncheck.readers import read
for path in sys.argv[1:]:
    read(path)
print(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak of one program")
def test_no_code_takes_much_memory(archive: Callable[..., bytes], folder: Path) -> None:
    paths = [folder / f"{name}.pt" for name in ATTACKS]
    for path, code in zip(paths, ATTACKS.values(), strict=True):
        path.write_bytes(archive(code))
    command = [sys.executable, "-c", READ_ALL, *map(str, paths)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert int(done.stdout) / 1024 < MEBIBYTES


def test_code_is_sought_in_the_archive_alone(make: Any, archive: Any, read_bytes: Any) -> None:
    code = lines("return __torch__.os.path.join(x, )")
    (model,) = read_bytes(archive(code, {"training": False, "a": make.Call("__torch__/../x.Y")}))
    graph = model.facts["graph"]
    assert isinstance(graph, Unknown)
    assert "no code" in graph.why


def test_constants_out_of_range_are_refused(follow: Callable[..., Model]) -> None:
    for name in ("c1", "c-1", "c" + "9" * 50, "d0"):
        graph = follow(f"return CONSTANTS.{name}").facts["graph"]
        assert isinstance(graph, Unknown)


DAMAGED = {
    "no objects": ("data.pkl", None, "without a PyTorch model"),
    "objects that are none": ("data.pkl", b"\x80\x02K\x05.", "holds no module"),
    "a pickle that ends early": ("data.pkl", b"\x80\x02c__torch__\nNet\n", "damaged"),
    "constants that end early": ("constants.pkl", b"", "damaged"),
}


@pytest.mark.parametrize(("name", "data", "why"), DAMAGED.values(), ids=DAMAGED.keys())
def test_damaged_archives_are_refused(
    make: Any, read_bytes: Any, name: str, data: bytes | None, why: str
) -> None:
    named = {
        "data.pkl": make.pickle(make.Call("__torch__.Net", (), {}, new=True)),
        "constants.pkl": make.pickle(()),
        name: data,
    }
    entries = [make.Entry(f"net/{n}", held) for n, held in named.items() if held is not None]
    with pytest.raises(UnreadableModel, match=why):
        read_bytes(make.zip(*entries))


def test_storages_that_are_missing_are_only_missed_when_they_are_read(
    make: Any, follow: Callable[..., Model]
) -> None:
    held = {"training": False, "running_mean": make.tensor("0", (4,))}
    held["running_var"] = make.tensor("1", (4,))
    call = "torch.batch_norm(x, None, None, self.running_mean, self.running_var, False, 0.1, 1e-05)"
    model = follow(f"return {call}", state=held)
    (layer,) = model.layers
    assert layer.running_mean is not None
    with pytest.raises(UnreadableModel, match="lacks"):
        _ = layer.running_mean.values
