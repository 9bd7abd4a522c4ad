"""Doors for people who come from other libraries: their functions' names, arguments and orders."""
