"""Programs: loading, what the verifier says, running, and attaching by section."""
