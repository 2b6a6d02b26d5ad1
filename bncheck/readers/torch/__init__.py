"""PyTorch's own files: zip archives, the format of before 1.6, packages, distributed folders."""
