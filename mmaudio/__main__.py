"""`python -m mmaudio …`, and `torchrun … -m mmaudio …`: the `mmaudio` command."""

from mmaudio.commands.main import main

if __name__ == "__main__":
    main()
