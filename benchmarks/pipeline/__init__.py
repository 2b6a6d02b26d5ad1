"""What a check of many files costs, in one process and in several."""
