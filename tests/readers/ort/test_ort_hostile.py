"""ORT files that are cut off, damaged, or made to hurt: read, or refused in one line."""

from __future__ import annotations

import random
import struct
import time

import pytest

from bncheck.errors import UnreadableModel
from bncheck.facts import UnknownFact
from bncheck.readers.ort import budget, read
from bncheck.readers.source import BytesSource
from bncheck.tensor import Tensor

MUTANTS = 4_000
LEAST_READ = 0.1  # of them; a fifth is usual
LONGEST_REASON = 400
WORDS = (0, 1, 2, 4, 8, 16, 127, 255, 1 << 15, (1 << 16) - 1, (1 << 31) - 1, 1 << 31, (1 << 32) - 4)


@pytest.fixture(scope="module")
def seed(ort) -> bytes:
    """A file with something of everything."""
    body = ort.graph(
        [ort.node("InstanceNormalization", "h w w", "y")], [ort.floats("w", 1, 2)], inputs=""
    )
    nodes = [
        ort.batch_norm(y="h", name="norm", epsilon=0.001, momentum=0.9),
        ort.node("If", "c", "i", captured="h", then_branch=body, else_branch=body),
        ort.node("FusedConv", "i k", "y", "com.microsoft", activation="Relu", strides=[1, 1]),
    ]
    kernel = ort.tensor("k", [1, 2, 1, 1], struct.pack("<2e", 1, 2), "float16")
    sparse = ort.Table({0: ort.floats("s", 7), 2: ort.Number("q", [4])})
    values = [ort.value("x", "batch", 2, None), ort.value("h", 1, 2, 3)]
    held = [*ort.parameters(), kernel]
    return ort.file(ort.graph(nodes, held, "x c", values=values, sparse=[sparse]))


def touch(model) -> None:
    """Read all values; what a file cannot give is refused in the two ways that are documented."""
    held = [value for layer in model.layers for value in layer.facts.values()]
    held += [value for node in model.graph.nodes for value in node.parameters.values()]
    for value in held:
        if isinstance(value, Tensor):
            try:
                assert len(value.values) == value.numel
            except (UnreadableModel, UnknownFact):
                continue


def attempt(data: bytes) -> str:
    """The reason why a file is refused, "" where it is read; nothing else may happen."""
    try:
        (model,) = read(BytesSource(data))
    except UnreadableModel as error:
        assert "\n" not in error.reason
        assert len(error.reason) <= LONGEST_REASON
        return error.reason
    touch(model)
    return ""


def mutant(seed: bytes, chance: random.Random) -> bytes:
    data = bytearray(seed)
    for _ in range(chance.choice((1, 1, 2, 4))):
        at = chance.randrange(len(data))
        word = at & ~3
        match chance.randrange(6):
            case 0:
                data[at] = chance.randrange(256)
            case 1:
                value = chance.choice((*WORDS, chance.randrange(len(data))))
                data[word : word + 4] = struct.pack("<I", value)
            case 2:
                value = chance.choice((0, 4, 6, 8, 1 << 15, chance.randrange(100)))
                data[word : word + 2] = struct.pack("<H", value)
            case 3:
                other = chance.randrange(len(data)) & ~3
                data[word : word + 4] = data[other : other + 4]
            case 4:
                del data[word : word + 4 * chance.randrange(1, 4)]
            case _:
                data[word:word] = data[word : word + 4 * chance.randrange(1, 9)]
    return bytes(data)


def test_the_seed_is_sound(seed):
    assert attempt(seed) == ""


def test_mutants_are_read_or_refused(seed):
    chance = random.Random(0)
    refused = sum(bool(attempt(mutant(seed, chance))) for _ in range(MUTANTS))
    assert LEAST_READ * MUTANTS < MUTANTS - refused < MUTANTS


def test_any_word_may_be_anything(seed):
    for at in range(0, len(seed) - 3, 4):
        for value in (0, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF):
            attempt(seed[:at] + struct.pack("<I", value) + seed[at + 4 :])


def test_a_file_that_is_cut_off_is_refused(seed):
    for keep in range(len(seed) - 8):
        assert attempt(seed[:keep])


def layout(*fields: int, size: int = 12) -> bytes:
    return struct.pack(f"<{2 + len(fields)}H", 4 + 2 * len(fields), size, *fields)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "ends at byte 0"),
        (b"\0\0\0\0ORTM", "leads nowhere"),
        (b"\xff\xff\xff\xffORTM", "ends at byte 8"),
        (b"\x08\0\0\0ORTM" + struct.pack("<i", 100), "layout lies outside the file"),
        (b"\x08\0\0\0ORTM" + struct.pack("<i", -100), "layout lies outside the file"),
        (b"\x0c\0\0\0ORTM" + layout(size=3) + struct.pack("<i", 4), "impossible size"),
        (b"\x0c\0\0\0ORTM" + layout(size=9000) + struct.pack("<i", 4), "impossible size"),
        (b"\x0c\0\0\0ORTM" + struct.pack("<2Hi", 5, 4, 4), "impossible size"),
        (b"\x0c\0\0\0ORTM" + struct.pack("<2Hi", 2, 4, 4), "impossible size"),
        (b"\x0c\0\0\0ORTM" + layout(size=64) + struct.pack("<i", 4), "ends at byte 16,"),
        (b"\x0e\0\0\0ORTM" + layout(3) + struct.pack("<3i", 6, 4, 4), "a field outside its table"),
        (b"\x0e\0\0\0ORTM" + layout(12) + struct.pack("<3i", 6, 4, 4), "a field outside its table"),
        (b"\x0e\0\0\0ORTM" + layout(10) + struct.pack("<3i", 6, 4, 4), "a field outside its table"),
        (b"\x0e\0\0\0ORTM" + layout(4) + struct.pack("<3i", 6, 0, 4), "leads nowhere"),
        (b"\x0e\0\0\0ORTM" + layout(4) + struct.pack("<3i", 6, 4, 9), "longer than the file"),
    ],
)
def test_unsound_tables(data, reason):
    assert reason in attempt(data)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("a\0b", "a name with a NUL in it"), ("a" * (1 << 20 | 1), "million bytes")],
)
def test_names_that_are_none(ort, name, reason):
    assert reason in attempt(ort.file(ort.graph([ort.Table({5: name})])))


def test_a_name_that_is_no_text(ort):
    data = ort.file(ort.graph([ort.Table({5: b"\xff\xfe"})]))
    assert "a name that is no UTF-8" in attempt(data)


def test_a_cycle_of_values_is_refused(ort):
    nodes = [ort.node("Add", "x b", "a"), ort.node("Relu", "a", "b"), ort.node("Relu", "b", "y")]
    assert "made from itself" in attempt(ort.file(ort.graph(nodes)))


def test_a_node_that_reads_what_it_makes_is_refused(ort):
    assert "made from itself" in attempt(ort.file(ort.graph([ort.node("Relu", "y", "y")])))


def test_two_attributes_of_one_name_are_refused(ort):
    twice = [ort.attribute("axis", 1)] * 2
    assert "two attributes 'axis'" in attempt(
        ort.file(ort.graph([ort.Table({5: "Concat", 8: ["x"], 9: ["y"], 10: twice})]))
    )


def test_bodies_in_bodies_are_refused_by_depth_without_recursion(ort):
    graph = ort.graph([ort.node("Relu", "x", "y")])
    for _ in range(2_000):
        graph = ort.graph([ort.node("If", "x", "y", then_branch=graph)], inputs="x")
    assert "deep" in attempt(ort.file(graph))


def test_a_chain_that_is_listed_backwards_is_sorted_without_recursion(ort):
    nodes = [ort.node("Relu", f"x{i + 1}", f"x{i}") for i in range(3_000)]
    (model,) = read(BytesSource(ort.file(ort.graph(nodes, inputs="x3000", outputs="x0"))))
    assert model.graph.nodes[0].inputs == ("x3000",)


def test_what_several_tables_refer_to_does_not_unfold(ort):
    """300 nodes with one vector of 300 attributes: 90,000, in a file of 50 KB."""
    attributes = ort.Shared([ort.attribute(f"a{i}", 1) for i in range(300)])
    nodes = [ort.Table({5: "Relu", 8: ["x"], 9: [f"y{i}"], 10: attributes}) for i in range(300)]
    data = ort.file(ort.graph(nodes))
    assert len(data) < 50_000
    assert "one place from several" in attempt(data)


def test_bodies_that_share_a_body_do_not_unfold(ort):
    """Both branches are one body, at each of 40 levels: 2 ** 40 of them."""
    body = ort.Shared(ort.graph([ort.node("Relu", "x", "o")], inputs="", outputs="o"))
    for _ in range(40):
        node = ort.node("If", "c", "o", then_branch=body, else_branch=body)
        body = ort.Shared(ort.graph([node], inputs="", outputs="o"))
    graph = ort.graph([ort.node("If", "c", "y", then_branch=body)], inputs="x c")
    start = time.process_time()
    assert "one place from several" in attempt(ort.file(graph))
    assert time.process_time() - start < 2


def test_data_that_several_tensors_share_is_refused(ort):
    """A thousand times the same megabyte would be a gigabyte to read."""
    raw = ort.Shared(bytes(1 << 10))
    held = [ort.tensor(f"w{i}", [256], raw) for i in range(10)]
    data = ort.file(ort.graph([ort.node("Relu", "x", "y")], held))
    assert "one place from several" in attempt(data)


@pytest.mark.parametrize(
    "make",
    [
        lambda ort: ort.graph([ort.Table({})] * 40_000),
        lambda ort: ort.graph([], [ort.floats("w", 1)] * 20_000),
        lambda ort: ort.graph([ort.node("Relu", "x", "y")], values=[ort.value("v", 1, 2)] * 9_000),
        lambda ort: ort.graph(
            [ort.Table({10: [ort.attribute(f"a{i}", 1) for i in range(40_000)]})]
        ),
    ],
    ids=["nodes", "initializers", "values", "attributes"],
)
def test_what_no_model_has_is_refused(ort, make, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(budget, "TABLES", 60_000)
    monkeypatch.setattr(budget, "RECORDS", 60_000)
    assert "more nodes, tensors and names than any model does" in attempt(ort.file(make(ort)))
