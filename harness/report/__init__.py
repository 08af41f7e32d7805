"""Reports: what a night looks like to somebody who was not there."""
