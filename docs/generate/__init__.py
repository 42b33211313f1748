"""Pages that are made from the program: ``make docs`` writes them, tests compare them."""
