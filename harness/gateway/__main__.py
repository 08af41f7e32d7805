"""`python -m harness.gateway FD`, as client.py starts it."""

import sys

from harness.gateway.server import main

main(int(sys.argv[1]))
