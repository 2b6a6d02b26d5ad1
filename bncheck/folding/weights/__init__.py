"""Folds files that hold weights: the code that uses them comes from the user, or is unpickled."""
