"""The operations: one record for each, one file for each family."""
