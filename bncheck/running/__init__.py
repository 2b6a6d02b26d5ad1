"""A run over many files: which they are, in how many processes, and what it comes to."""
