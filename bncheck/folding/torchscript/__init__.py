"""Folds TorchScript archives: tensors and lines of code that change; nothing of them is run."""
