"""The gateway: a reverse proxy between agents and their LLM providers. It adds the key, counts, limits, and waits.

`client.py` is the night's side. The proxy is a process of its own (`server.py`), so that neither of them can take the other
along: `proxy.py` is the story of one request, the other files are its parts. docs/gateway.md says what it protects.
"""
