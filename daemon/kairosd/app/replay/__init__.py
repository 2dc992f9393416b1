"""Replay: recorded decisions and runs are carried out again by today's code, offline, and compared with the record."""
