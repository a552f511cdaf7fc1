"""Use a module that `rawbpf gen skeleton bpf/execcount.bpf.o` wrote, which is beside this."""

import subprocess

from docs.examples.how_to.generated.execcount import Execcount

# [start:use]
spec = Execcount.open()
spec.variables.min_uid.value = 12345
spec.maps.exec_count.max_entries = 1000
with spec.load() as counter, counter.attach():
    for _ in range(3):
        subprocess.run(["/bin/true"], user=12345, check=True)
    print(counter.maps.exec_count[12345], "executions")
# [end:use]
