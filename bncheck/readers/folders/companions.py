"""What files beside a model say of it. A model that has none of them is read as it is."""

from __future__ import annotations

from dataclasses import replace

from bncheck.errors import UnreadableModel
from bncheck.facts import Evidence, Unknown
from bncheck.model import NO_BATCH_SIZE, BatchSize, Model, NormLayer
from bncheck.readers.source import FileSource, Source

TRAINING_ARGUMENTS = "training_args.bin"
# What save_pretrained of transformers calls the weights.
WEIGHTS = frozenset(
    name + more
    for name in ("model.safetensors", "pytorch_model.bin")
    for more in ("", ".index.json")
)


def with_companions(model: Model, source: FileSource) -> Model:
    """The model with what lies beside its file; each file is looked for only where it may tell."""
    if model.batch_norms and model.facts.get("batch_size") is NO_BATCH_SIZE:
        model = _with_training_arguments(model, source)
    if model.content == "state_dict" and source.path.name in WEIGHTS:
        model = _with_config(model, source)
    if model.content == "module" and model.batch_norms and not model.loader_calls_eval:
        model = _with_loader(model, source)
    return model


def _with_training_arguments(model: Model, source: FileSource) -> Model:
    """transformers writes its hyper-parameters beside the model, into a file of their own."""
    size = _batch_size_beside(source)
    if not isinstance(size, BatchSize):
        return model
    evidence = model.evidence | {Evidence.METADATA}
    return replace(model, evidence=evidence, facts={**model.facts, "batch_size": size})


def _batch_size_beside(source: FileSource) -> BatchSize | Unknown:
    try:
        beside = source.sibling(TRAINING_ARGUMENTS)
        return NO_BATCH_SIZE if beside is None else _batch_size_in(beside)
    except UnreadableModel:  # the model itself is sound
        return NO_BATCH_SIZE


def _batch_size_in(arguments: Source) -> BatchSize | Unknown:
    from bncheck.readers.torch import hyper_parameters, zipped

    return hyper_parameters.of_training_arguments(zipped.load(arguments)[0])


def _with_config(model: Model, source: FileSource) -> Model:
    from bncheck.readers.folders import transformers_config

    config = transformers_config.beside(source)
    if config is None:
        return model
    model = replace(model, holds=f"{model.holds}, model_type {config.model_type}")
    if config.eps is None:
        return model
    eps = {"eps": config.eps}
    layers = (
        replace(layer, facts={**layer.facts, **eps}) if config.governs(layer) else layer
        for layer in model.layers
    )
    return replace(model, layers=tuple(layers), evidence=model.evidence | {Evidence.METADATA})


def _with_loader(model: Model, source: FileSource) -> Model:
    if not any(layer.get(NormLayer.training, False) for layer in model.batch_norms):
        return model
    from bncheck.readers.folders import mlflow

    return replace(model, loader_calls_eval=mlflow.loader_calls_eval(source))
