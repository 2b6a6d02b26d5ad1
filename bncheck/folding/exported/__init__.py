"""Folds archives of torch.export (.pt2): only what changes is made anew, and nothing is loaded."""
