"""Ready-made probes: each a NAME.bpf.c beside its NAME.py."""
