"""What is folded, beside the tools that people fold with."""
