"""A git-native harness that lets coding agents improve one file, and merges only what a referee measured to be better."""

__version__ = "0.1.0"
