"""What measuring found: problems to measure, records, files, tables and plots."""
