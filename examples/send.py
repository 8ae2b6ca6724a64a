"""Sends a file from Python, and tells what became of it by the exit code.

    python3 examples/send.py data.csv reader
"""

import json
import os
import shlex
import subprocess
import sys

command = shlex.split(os.environ.get("ATS_P2P", "npx ats-p2p"))
path, recipient = sys.argv[1:]

done = subprocess.run(
    [*command, "send", path, "--to", recipient, "--json", "--actor-id", "python"],
    stdout=subprocess.PIPE,
    text=True,
)
events = [json.loads(line) for line in done.stdout.splitlines()]

if done.returncode == 0:
    result = next(event for event in events if event["event"] == "transfer_complete")
    print(f"delivered, SHA-256 {result['hash']}")
else:
    failure = next((event for event in events if event["event"] == "failed"), None)
    print(f"exit code {done.returncode}: {failure['message'] if failure else 'wrong usage'}")
    sys.exit(done.returncode)
