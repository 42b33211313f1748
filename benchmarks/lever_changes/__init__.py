"""Changes to a training that no setting makes, each applied around the pipeline's own parts.

A change is a function from an assembled `tasks.training.assemble.Trial` to the changed one; the
pipeline's own loop then trains it.
"""
