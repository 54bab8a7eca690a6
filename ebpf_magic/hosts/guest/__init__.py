"""What a virtual machine of ours is made of: its files, its first process, its command line, its life."""
