"""Folds live modules and exported programs: the plan of a graph, carried out on their tensors."""
