"""What folding needs of zip archives and pickles, to rewrite PyTorch's files without torch."""
