"""Families of models with known truth, built by real tools only.

`truth` documents the truth file, `demo`, `build` and `crowd` are the commands.
"""
