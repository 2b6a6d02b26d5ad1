"""Folds live ExportedPrograms: the plan of their graph, carried out on a copy of it."""
