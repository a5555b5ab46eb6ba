"""One process that imports PyTorch once and runs this project's commands in children, to be killed.

Lines of JSON in and out: ``[folder, command, *arguments]`` is answered with the child's number, and
a child's number with its exit code, negative where a signal ended it, and the processor's seconds
that it took. What a child tells on stderr comes to ``said`` beside its folder, and what it fits,
makes and scores to ``work``.
"""

import functools
import json
import os
import signal
import sys
import traceback

from brainvae_core import authors, cohorts, explorer, results, study
from brainvae_core.cohorts import allen
from brainvae_core.models import runs

COMMANDS = {"acquire": allen, "authors": authors, "explorer": explorer, "results": results}
COMMANDS |= {"study": study}
SIGNALS = {signal.SIGINT, signal.SIGTERM}


def noted(module, name, words):
    """Have a function add a line to ``work`` whenever it is called."""
    whole = getattr(module, name)

    @functools.wraps(whole)
    def noting(*arguments, **options):
        with open(os.environ["WORK"], "a") as file:
            file.write(f"{words(arguments)}\n")
        return whole(*arguments, **options)

    setattr(module, name, noting)


def child(folder, command, *arguments):
    os.setpgid(0, 0)
    os.chdir(folder)
    os.environ["WORK"] = os.path.abspath("../work")  # commands may change folder
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open("../said", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    # As `python -m` has it from the package's import on.
    signal.signal(signal.SIGINT, lambda *_: (os.write(2, b"stopped\n"), os._exit(130)))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    sys.argv = [command, *arguments]
    code = 1
    try:
        code = COMMANDS[command].main() or 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else print(ended.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(1 if code is None else code)


def main():
    noted(runs, "train_together", lambda given: "\n".join(str(config.label) for config in given[0]))
    noted(cohorts, "simulate", lambda _: "cohort")
    noted(results, "_joined", lambda _: "scores")
    for line in sys.stdin:
        asked, answer = json.loads(line), None
        if isinstance(asked, int):
            _, status, used = os.wait4(asked, 0)
            answer = os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime
        else:
            signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
            if (answer := os.fork()) == 0:
                child(*asked)
            os.setpgid(answer, answer)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
