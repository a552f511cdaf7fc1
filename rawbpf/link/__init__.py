"""Links: what keeps a program attached. One file per hook."""
