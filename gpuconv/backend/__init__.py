"""Arrays, devices, sources and threads: everything that differs between machines."""
