"""The entry point of the `mpo` command. No other package has a module of this name; `flows` is a common one."""

from mpo_core.contract.own_packages import prefer_own_packages

prefer_own_packages()

from flows.cli import main  # noqa: E402 - ours, once the line above has run

if __name__ == "__main__":
    main()
