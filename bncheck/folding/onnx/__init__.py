"""Folds ONNX files: only what changes is made anew, all else is copied byte by byte."""
