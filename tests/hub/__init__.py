"""Tests of the hub room, and the Hub that they run against."""
