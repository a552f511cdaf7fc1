"""A map of one's own: no program, no object file, only the kernel's map and Python."""

import rawbpf

# [start:create]
stock = rawbpf.Map.create("hash", key="char[16]", value="u64", max_entries=4, name="stock")
print(stock)
# [end:create]

# [start:use]
stock["apples"] = 3
stock["pears"] = 5
stock["apples"] += 1
print(stock["apples"], "apples", stock.get("plums", 0), "plums")
print("pears" in stock, len(stock))
del stock["pears"]
# [end:use]

# [start:many]
stock.update({"pears": 7, "plums": 9})
print(sorted(stock.keys()), stock.sum())
print(stock.top(2))
snapshot = stock.snapshot()
print(snapshot == {"apples": 4, "pears": 7, "plums": 9})
# [end:many]

# [start:views]
counts = stock.values()
print(sorted(counts))
stock["figs"] = 1
print(sorted(counts))
# [end:views]

# [start:errors]
try:
    stock["grapes"]
except rawbpf.KeyNotFound as error:
    print(error)
try:
    stock["grapes"] = 2
except rawbpf.MapFull as error:
    print(error)
try:
    stock["apples"] = -1
except OverflowError as error:
    print(error)
try:
    stock["a name that is too long"] = 1
except ValueError as error:
    print(error)
# [end:errors]

# [start:close]
stock.close()
try:
    stock["apples"]
except rawbpf.Closed as error:
    print(error)
# [end:close]

# [start:structs]
flow = {"address": "ipv4", "port": "be16", "open": "bool"}
total = {"packets": "u64", "bytes": "u64", "host": "char[16]"}
with rawbpf.HashMap.create(key=flow, value=total, max_entries=128) as flows:
    flows[{"address": "192.0.2.1", "port": 443, "open": True}] = {"packets": 2, "bytes": 120, "host": "www"}
    flows["198.51.100.7", 53, False] = (1, 80, "dns")
    for key, value in sorted(flows.items()):
        print(key.address, key.port, value.packets, value.host)
        print(value)
    key, value = flows.top(1, by="bytes")[0]
    flows[key] = value._replace(bytes=0)
    print(flows[key].asdict())
# [end:structs]

# [start:arrays]
with rawbpf.ArrayMap.create(value="u32", max_entries=4) as squares:
    for i in range(len(squares)):
        squares[i] = i * i
    print(list(squares), squares[-1], squares[1:3], 9 in squares)
    try:
        squares[4]
    except IndexError as error:
        print(error)
# [end:arrays]

# [start:percpu]
with rawbpf.PerCpuArrayMap.create(value="u64", max_entries=1) as hits:
    hits[0] = rawbpf.PerCpu.filled(10)
    print(hits[0].sum() == 10 * len(hits[0]))
# [end:percpu]
