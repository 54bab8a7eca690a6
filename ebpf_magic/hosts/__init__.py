"""Where programs run: one file a host, all of one shape (`base.AgentHost`)."""
