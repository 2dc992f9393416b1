"""The parts of scripts/check: `rules` is data, `tools` runs other people's checkers, `shape` and `text` are ours."""
