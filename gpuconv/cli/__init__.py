"""The ``gpuconv`` command; the only part that needs click, rich and Pillow."""
