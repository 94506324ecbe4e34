"""Benchmarks of the package, each with its alternative beside it; docs/benchmarks.md has the commands and figures."""
