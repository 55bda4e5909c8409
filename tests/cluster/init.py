"""The first process of a cluster's PID namespace: it only reaps what others leave behind.

When it is killed, the kernel ends every process of the namespace (components, shims, containers) and with the last of
them go its mounts and its network. That is how a cluster ends, also one whose runner crashed. Runs as a plain script.
"""

import contextlib
import os
import signal


def main() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    print("ready", flush=True)
    while True:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        signal.sigwait({signal.SIGCHLD})


if __name__ == "__main__":
    main()
