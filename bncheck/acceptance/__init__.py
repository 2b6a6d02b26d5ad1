"""What a project accepts of what is found: suppressions for a reason, and a baseline."""
