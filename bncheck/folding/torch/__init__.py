"""Folds live modules: the plan of a trace, carried out on the module's own parameters."""
