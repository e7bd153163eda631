"""One command for a machine with a GPU: test gradx there, time it, and write a page and a JSON file for an issue.

    python bench/gpu_report.py [DIR] [--quick]

is `gradx bench --report [DIR]`; see `gradx.cli.gpu_report`.
"""

import sys

from gradx.cli import main

if __name__ == "__main__":
    sys.exit(main(["bench", "--report", *sys.argv[1:]]))
