"""What the report's plots are drawn from, measured once on data and trained models.

Every function returns plain rows; `write.py` puts them into small JSON files.
"""
