"""What a check costs, beside all that people look into the same file with."""
