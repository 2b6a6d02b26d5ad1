"""TorchScript archives: scripted, traced and frozen modules, as torch.jit.save writes them.

``<root>/data.pkl`` holds the objects, ``<root>/constants.pkl`` constants that code refers to, and
``<root>/code`` the code, in a small part of Python's syntax: one statement a line, no operators.
That part has its own parser here. Python's would take anything else too, need a hundred bytes for
each character, and nest as deep as the file says; and what it makes differs between its versions.
Nothing of the code is run: it is followed symbolically, under a budget, to see what becomes of
tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bncheck.errors import UnreadableModel
from bncheck.facts import Evidence, Unknown
from bncheck.graph import Graph
from bncheck.model import NO_BATCH_SIZE, Model, NormLayer
from bncheck.readers import graph_model, module_tree, nn_module
from bncheck.readers.torch import zipped
from bncheck.readers.torch.pickle_values import Instance, Value, mapping
from bncheck.readers.torch.values import parameter
from bncheck.readers.torchscript import layers as script_layers
from bncheck.readers.torchscript.follow import Follower
from bncheck.readers.torchscript.graph import Observe, build, unobserved
from bncheck.readers.torchscript.library import ROOT, Library
from bncheck.readers.torchscript.objects import Objects, ScriptObject
from bncheck.readers.torchscript.program import Unclear
from bncheck.readers.torchscript.saved import TAGGED
from bncheck.readers.torchscript.world import World
from bncheck.readers.ziparchive import ZipArchive
from bncheck.tensor import Tensor

TRACED_INPUTS = "traced_inputs"
INSTEAD = "check the .onnx exported from the same model"
LONGEST_REASON = 200  # characters: it may have names of the file in it


@dataclass(frozen=True, slots=True)
class Followed:
    """What is known of layers and their order; ``graph`` is Unknown where the code is unclear."""

    layers: tuple[NormLayer, ...]
    graph: Graph | Unknown
    order: Graph | Unknown


Follow = Callable[[World], Follower]


def read(
    archive: ZipArchive, root: str, follow: Follow = Follower, observe: Observe = unobserved
) -> tuple[Model, ...]:
    """The one model of an archive that has data.pkl and constants.pkl.

    ``follow`` makes what follows the code, ``observe`` is told what each node was made of.
    """
    library = Library(archive, root)
    value, storages = zipped.load_part(archive, root, "data")
    if not isinstance(value, Instance) or not value.class_path.startswith(f"{ROOT}."):
        raise UnreadableModel("is a TorchScript archive whose data.pkl holds no module")
    data = Objects(library, storages, "data")
    table, constant_storages = zipped.load_part(archive, root, "constants")
    constants = Objects(library, constant_storages, "constants")
    top = data.object(value)
    modules = module_tree.tree(top)
    records = {n: r for n, r in modules.places.items() if isinstance(r, ScriptObject)}
    places = {record.identity: name for name, record in records.items()}
    world = World(data, constants, table if isinstance(table, tuple | list) else (), places)
    ranks = [len(tensor.shape) for tensor in traced_inputs(archive, root)]
    followed = _followed(top, modules, records, follow(world), observe, ranks)
    return (_model(top, records, followed),)


def _model(root: ScriptObject, records: script_layers.Modules, followed: Followed) -> Model:
    switchable = _is_switchable(root, records, followed.layers)
    return Model(
        format="torchscript",
        content="module" if switchable else "graph",
        layers=followed.layers,
        evidence=_evidence(followed, switchable),
        holds=_holds(root, records),
        statistics_gone=None if switchable else graph_model.statistics_gone(followed.layers),
        facts={
            "graph": followed.graph,
            "order": followed.order,
            "batch_size": NO_BATCH_SIZE,
        },
    )


def _followed(
    root: ScriptObject,
    modules: module_tree.Tree,
    records: script_layers.Modules,
    follower: Follower,
    observe: Observe,
    ranks: Sequence[int],
) -> Followed:
    layers, order = nn_module.layers(modules)
    try:
        outputs = follower.forward(root)
        graph, found = build(follower.world, outputs, observe, ranks)
    except Unclear as unclear:
        why = f"the code is not followed: {unclear}"
        unknown = Unknown("graph", why[:LONGEST_REASON], INSTEAD)
        return Followed(script_layers.without_calls(layers, records), unknown, order)
    return Followed(script_layers.with_calls(layers, records, found, graph), graph, graph)


def _is_frozen(root: ScriptObject) -> bool:
    """Whether the mode was taken out for good, by torch.jit.freeze."""
    return "training" not in root.held


def _is_switchable(
    root: ScriptObject, modules: script_layers.Modules, layers: Sequence[NormLayer]
) -> bool:
    """Whether eval() means something: to the BatchNorms, or if there is none, to any module."""
    batch_norms = [modules[la.name] for la in layers if la.is_batch_norm and la.name in modules]
    if _is_frozen(root):
        return False
    if batch_norms:
        return any(module.reads_mode for module in batch_norms)
    return any(module.is_scripted for module in modules.values())


def _evidence(followed: Followed, switchable: bool) -> frozenset[Evidence]:
    values = (value for layer in followed.layers for value in layer.facts.values())
    held = {Evidence.TENSORS: any(isinstance(value, Tensor) for value in values)}
    held[Evidence.FLAGS] = switchable
    held[Evidence.GRAPH] = isinstance(followed.graph, Graph)
    return frozenset(each for each, there in held.items() if there)


def _holds(root: ScriptObject, modules: script_layers.Modules) -> str:
    name = root.class_path.rpartition(".")[2]
    scripted = any(module.is_scripted for module in modules.values())
    kind = "frozen" if _is_frozen(root) else "scripted" if scripted else "traced"
    return f"{name}, {kind}" if len(modules) == 1 else f"{name} of {len(modules)} modules, {kind}"


def traced_inputs(archive: ZipArchive, root: str) -> tuple[Tensor, ...]:
    """The tensors that a module was traced with, of which an archive keeps the shapes."""
    if not archive.has(f"{root}/{TRACED_INPUTS}.pkl"):
        return ()
    table, storages = zipped.load_part(archive, root, TRACED_INPUTS)
    given = _untagged((mapping(_untagged(table)) or {}).get("forward"))
    held = [parameter(each, storages) for each in given] if isinstance(given, tuple | list) else []
    tensors = tuple(each.tensor for each in held if each and isinstance(each.tensor, Tensor))
    return tensors if len(tensors) == len(held) else ()


def _untagged(value: Value) -> Value:
    """A value without the call that tells its type."""
    is_tagged = isinstance(value, Instance) and value.class_path.startswith(TAGGED)
    return value.args[0] if is_tagged and value.args else value
