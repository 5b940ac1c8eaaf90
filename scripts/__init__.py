"""Programs of the repository: the demo, the zoo, benchmarks, generated files."""
