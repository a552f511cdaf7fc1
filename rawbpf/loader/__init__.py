"""From an object file to a loaded object: specification, maps, programs, links."""
