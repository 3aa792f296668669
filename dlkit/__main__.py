"""`python -m dlkit`, also what `torchrun -m dlkit` starts."""

from dlkit.cli.app import main

if __name__ == "__main__":
    main()
