"""Receives files in Python, by the JSON lines of the command.

    python3 examples/receive.py inbox        # ATS_P2P names the command, else it is `npx ats-p2p`
"""

import json
import os
import shlex
import subprocess
import sys

command = shlex.split(os.environ.get("ATS_P2P", "npx ats-p2p"))
folder = sys.argv[1] if len(sys.argv) > 1 else "inbox"

with subprocess.Popen(
    [*command, "listen", "--json", "--save-dir", folder, "--actor-id", "python"],
    stdout=subprocess.PIPE,
    text=True,
) as listener:
    for line in listener.stdout:
        event = json.loads(line)
        if event["event"] == "connected":
            print(f"waiting as {event['actorId']}", flush=True)
        if event["event"] == "transfer_complete":
            print(f"{event['filePath']} from {event['peerId']}: {event['fileHash']}", flush=True)
            listener.terminate()
