"""Tests of the readers of claims."""
