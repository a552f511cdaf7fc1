"""Take events of two types of the object given, which compile.sh made of run_tagged.bpf.c, from `rawbpf run --json`."""

import json
import subprocess
import sys

# [start:take]
COMMAND = [sys.executable, "-m", "rawbpf", "run", sys.argv[1], "--event", "lives:kind=STARTED:started,ENDED:ended"]

with subprocess.Popen([*COMMAND, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as command:
    assert command.stdout is not None
    assert command.stderr is not None
    command.stderr.readline()  # it is attached
    subprocess.run(["/bin/true"], check=True, user=12345)
    for line in command.stdout:
        said = json.loads(line)
        if "event" in said and said["value"]["uid"] == 12345:
            print(said["type"], said["value"])
            if said["type"] == "ended":
                break
# [end:take]
