"""How hard the code base is to know, and whether it holds together: `python -m tools.house`, or `make house`."""
