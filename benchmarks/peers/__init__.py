"""Other libraries' recommenders on prepared data, each in an environment of its own."""
