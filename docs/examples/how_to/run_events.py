"""Take the events that `rawbpf run --json` prints, as a program in any language may."""

import json
import subprocess
import sys

# [start:take]
COMMAND = [sys.executable, "-m", "rawbpf", "run", "bpf/exec_events.bpf.o", "--map", "exec_events", "--json"]

with subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as command:
    assert command.stdout is not None
    assert command.stderr is not None
    print(command.stderr.readline(), end="")  # it is attached
    subprocess.run(["/bin/true"], check=True, user=12345)
    for line in command.stdout:
        said = json.loads(line)
        if said.get("type") == "exec_event" and said["value"]["uid"] == 12345:
            print(said)
            break  # nobody reads any more: the command ends
# [end:take]
