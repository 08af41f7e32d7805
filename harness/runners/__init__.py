"""Runners: where measurements are executed."""
