"""How often bncheck cries wolf, and what it finds."""
