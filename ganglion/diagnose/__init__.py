"""What a network is and does."""

from ganglion.diagnose.summary import Summary, summary

__all__ = ["Summary", "summary"]
