"""A checkout that does whatever a request says: what adapters have to cope with."""

import os
import subprocess
import sys
import time

import numpy as np


def run(image, do):
    print(f"{do} on standard output")
    if do == "raise":
        raise RuntimeError("out of\n    memory")
    if do == "exit":
        sys.exit(3)
    if do == "segfault":
        os.kill(os.getpid(), 11)
    if do == "hang":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        with open("grandchild.pid", "w") as file:
            file.write(str(child.pid))
        time.sleep(60)
    if do == "abandon":
        # Ends, and leaves a process behind that holds all its pipes open.
        if os.fork() == 0:
            time.sleep(60)
        os._exit(4)
    if do == "shape":
        return image[:, :-1]
    if do == "nan":
        return np.where(np.arange(image.size).reshape(image.shape) < 2, np.nan, image)
    if do == "range":
        return image * 255
    if do == "read":
        assert sys.stdin.read() == "", "standard input is not its own"
    if do == "chatter":
        print('{"done": 1}\n' * 20000)
    if do == "overshoot":
        return image + 0.02
    return image
