"""python -m facelet: see facelet.program."""

from facelet.program import command

if __name__ == "__main__":
    command()
