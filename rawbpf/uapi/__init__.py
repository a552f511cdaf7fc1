"""What the kernel's headers say: constants, layouts, names. Never touches a kernel."""
