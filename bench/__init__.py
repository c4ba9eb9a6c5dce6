"""What measures this source tree: ``python -m bench`` is its ``fastconv bench``; ``asv/`` is what asv runs."""
