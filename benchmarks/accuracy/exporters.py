"""Imports what every network needs, and which takes seconds: once, for all processes."""

import onnxscript  # noqa: F401
import torch._dynamo
import torch.export
import torch.onnx._internal.exporter._core  # noqa: F401

import benchmarks.accuracy.work  # noqa: F401
