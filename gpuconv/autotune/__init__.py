"""Choosing configs: by a model of the device, and by trying."""
