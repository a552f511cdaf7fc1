"""Load the object given, which compile.sh made of networks.bpf.c, and count packets by the network they come from."""

import sys
from ipaddress import ip_address

import rawbpf

# [start:create]
with rawbpf.Map.create("lpm_trie", key="ipv4", value="u32", max_entries=1024) as routes:
    routes["10.0.0.0/8"] = 1
    routes["10.1.0.0/16"] = 2
    print(routes["10.1.2.3"], routes["10.2.3.4"], routes.get("192.0.2.1"))
    print(list(routes))
    keys = routes.keys()
    print("10.1.2.0/24" in routes, "10.1.2.0/24" in keys)
# [end:create]


def packet(source: str) -> bytes:
    """Return the start of an IPv4 packet from `source`, in an Ethernet frame."""
    return bytes(12) + b"\x08\x00" + bytes(12) + ip_address(source).packed + bytes(34)


# [start:count]
with rawbpf.load(sys.argv[1]) as obj:
    networks = obj.maps["networks"]
    networks.update({"10.0.0.0/8": 0, "10.1.0.0/16": 0, "0.0.0.0/0": 0})
    for source in ("10.1.2.3", "10.1.9.9", "10.2.3.4", "192.0.2.1"):
        obj.programs["count_sources"].run(packet(source))
    for network, count in networks.items():
        print(f"{network}: {count}")
# [end:count]
