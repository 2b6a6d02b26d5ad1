"""Checkpoints of mmcv and mmengine."""

from __future__ import annotations

import time

import pytest

from bncheck.facts import UnknownFact
from bncheck.model import BatchSize, Model
from bncheck.readers.torch import openmmlab

OLD = """\
model = dict(type='ResNet', norm_cfg=dict(type='BN', requires_grad=True))
data = dict(
    samples_per_gpu=2,
    workers_per_gpu=2,
    train=dict(type='CocoDataset', ann_file='data/coco.json'))
"""
NEW = """\
default_scope = 'mmpretrain'
train_cfg = dict(by_epoch=True, max_epochs=100)
train_dataloader = dict(
    batch_sampler=dict(type='AspectRatioBatchSampler'),
    batch_size=4,
    dataset=dict(
        pipeline=[
            dict(type='LoadImageFromFile'),
        ],
        type='ImageNet'),
    num_workers=5)
val_dataloader = dict(
    batch_size=64,
    num_workers=5)
"""
ONE_LINE = (
    "train_dataloader = dict(batch_size=4, num_workers=2)\nval_dataloader = dict(batch_size=9)"
)


@pytest.fixture
def model(make, read_bytes):
    def build(text: object, key: str = "cfg", **beside: object) -> Model:
        meta = {key: text, "epoch": 12, "iter": 3000, "mmengine_version": "0.10.3"}
        described = {"meta": meta, "state_dict": make.batch_norm(), **beside}
        return read_bytes(make.torch(described, make.batch_norm_data()), "epoch_12.pth")[0]

    return build


def size_of(found: Model) -> BatchSize | str:
    try:
        return found.batch_size
    except UnknownFact as error:
        return error.unknown.why


@pytest.mark.parametrize("key", ["cfg", "config"])
@pytest.mark.parametrize(
    ("text", "samples", "source"),
    [
        (OLD, 2, "meta: samples_per_gpu"),
        (NEW, 4, "meta: train_dataloader.batch_size"),
        (ONE_LINE, 4, "meta: train_dataloader.batch_size"),
    ],
)
def test_samples_per_device(model, key, text, samples, source):
    assert size_of(model(text, key)) == BatchSize(samples, source)


@pytest.mark.parametrize(
    "text",
    [
        "",
        None,
        7,
        ["samples_per_gpu=2"],
        OLD + "val_dataloader = dict(samples_per_gpu=1)\n",
        OLD.replace("=2,", "=batch,"),
        OLD + "train = dict(samples_per_gpu=samples)\n",
        OLD.replace("=2,", "=2.5,"),
        OLD.replace("=2,", "=2 * 8,"),
        OLD.replace("=2,", "=0,"),
        OLD.replace("samples_per_gpu", "max_samples_per_gpu"),
        NEW.replace("train_dataloader", "test_dataloader"),
        NEW + NEW,
        NEW.replace("batch_sampler=dict(", "batch_sampler=dict(batch_size=8, "),
        NEW.replace("batch_size=4", "total_batch_size=4"),
        "# train_dataloader = dict(batch_size=4)\n",
        "    " + ONE_LINE,
        OLD + "#" * openmmlab.MAX_TEXT,
    ],
)
def test_what_does_not_tell(model, text):
    assert size_of(model(text)) == "no batch size in this file"


@pytest.mark.parametrize("how", ["type='SyncBN'", "sync_bn='torch'", "type='NaiveSyncBN1d'"])
def test_synchronised_statistics(model, how):
    assert "unknown number of devices" in size_of(model(OLD.replace("type='BN'", how)))


@pytest.mark.parametrize("how", ["norm_eval=True", "norm_eval = True"])
def test_a_backbone_that_is_kept_from_training(model, how):
    assert "keeps some BatchNorm" in size_of(model(OLD.replace("type='ResNet'", how)))


def test_a_finished_model_counts_epochs_too(model):
    assert model(OLD).training_state is None


def test_with_an_optimizer_it_is_a_training_checkpoint(model):
    found = model(OLD, optimizer={"state": {}, "param_groups": []})
    assert found.training_state == "it holds the state of an optimizer, epoch 12"


@pytest.mark.parametrize(
    "unit", ["train_dataloader = dict(", "\n ", "batch_size=", "train_dataloader = dict(\n", "1"]
)
def test_hostile_text_is_searched_in_time(unit):
    text = (unit * openmmlab.MAX_TEXT)[: openmmlab.MAX_TEXT]
    begin = time.perf_counter()
    assert openmmlab.batch_size("train_dataloader = dict(" + text[:-24]) is None
    assert time.perf_counter() - begin < 2
