"""`python -m reliq` is the command `reliq`."""

from reliq.cli import main

if __name__ == "__main__":
    main()
