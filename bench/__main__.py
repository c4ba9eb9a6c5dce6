"""``python -m bench ...`` in the source tree: ``fastconv bench ...`` of that tree."""

import sys

from fastconv.cli import main

if __name__ == "__main__":
    sys.exit(main(["bench", *sys.argv[1:]]))
