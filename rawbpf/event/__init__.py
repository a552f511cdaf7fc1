"""What programs send to user space, and what it comes through; one file per kind."""
