"""A cohort through its epochs, what it starts with, and what it says of data that it has never seen."""
