"""Public sequence models, built as their documentation says, for `assay diagnose --model`."""
