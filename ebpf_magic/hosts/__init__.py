"""Where programs run: one file a host, all of one shape (`base.AgentHost`)."""

# Imported here and not on first use: a module and a function of one name, and the function is to win.
from ebpf_magic.hosts.vm import vm as vm
