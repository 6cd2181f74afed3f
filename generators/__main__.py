"""`python -m scweave.generators …` is `scweave build …`."""

import sys

from ..cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "build")
    main()
