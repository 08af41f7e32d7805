"""The report of a night over HTTP, read-only and up to date, for whoever has the address with its token."""
