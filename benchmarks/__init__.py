"""What is claimed about bncheck, measured beside what else people use."""
