"""What tests share: `needs` (the one way to skip), `leaks` (what a test left behind), `kernel_ids`."""
