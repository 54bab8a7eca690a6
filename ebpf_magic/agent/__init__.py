"""The kernel side: a process of its own that loads, attaches and reads; standard library and ctypes only."""
