"""What can run: one file for each algorithm, all under one contract (`base.Kernel`)."""
