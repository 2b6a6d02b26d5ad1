"""What users may decide: configuration files, what their values must be, and what follows."""
