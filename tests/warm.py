"""Steps of the workflow without the seconds that torch, transformers and matplotlib take to import.

A rehearsal is a thousand short `python -m sinet ...`. A process that has imported everything forks for each of them,
with its arguments, folder, environment and streams; `python` on the rehearsal's PATH asks it to.
"""

import contextlib
import importlib
import json
import os
import pkgutil
import runpy
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

LATE = (
    *("transformers.models.bert.modeling_bert", "transformers.models.albert.modeling_albert"),
    *("transformers.models.bert.tokenization_bert", "transformers.models.albert.tokenization_albert"),
    *("torch._inductor.config", "torch.profiler", "fvcore.nn", "scipy.optimize", "spacy.lang.en"),
)
"""What steps import only when they come to it."""
SHIM = """#!{python} -IS
import json, os, socket, sys
if sys.argv[1:3] != ["-m", "sinet"]:
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
server = socket.socket(socket.AF_UNIX)
server.connect({socket!r})
asked = {{"argv": sys.argv[3:], "cwd": os.getcwd(), "env": dict(os.environ)}}
socket.send_fds(server, [b"."], [0, 1, 2])
server.sendall(json.dumps(asked).encode())
server.shutdown(socket.SHUT_WR)
sys.exit(int(server.recv(4) or b"70"))  # a step that was killed says nothing
"""


@contextlib.contextmanager
def warm_python(project: Path, folder: Path) -> Iterator[dict[str, str]]:
    """Start such a process for a checkout, its files in `folder`, and end it afterwards; gives the environment in which
    Snakemake is to be called there."""
    place, shim = folder / "warm.socket", folder / "bin" / "python"
    shim.parent.mkdir(parents=True, exist_ok=True)
    shim.write_text(SHIM.format(python=sys.executable, socket=str(place)))
    shim.chmod(0o755)
    call = [sys.executable, __file__, str(place)]
    # what is read at import is as the workflow sets it for its steps
    environment = os.environ | {"PYTHONPATH": str(project), "HF_HUB_OFFLINE": "1"}
    server = subprocess.Popen(call, cwd=project, env=environment)
    try:
        while not place.exists():
            if server.poll() is not None:
                raise RuntimeError("the process that imports everything has ended")
            time.sleep(0.1)
        yield os.environ | {"PATH": f"{shim.parent}:{os.environ['PATH']}"}
    finally:
        server.terminate()
        server.wait()
        place.unlink(missing_ok=True)


def serve(place: str) -> None:
    """Import all modules of `sinet` and `baselines` and what they import later, then fork for every step asked for."""
    sys.path[0] = str(Path.cwd())
    import torch
    from transformers import conversion_mapping

    from sinet import provenance, systems

    for package in map(importlib.import_module, ("sinet", "baselines")):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    for name in LATE:
        importlib.import_module(name)
    for system in systems.sources():  # so does every training, for half of its second
        provenance.digest("sinet.train.trainer.train_run", systems.entry(system))
    with torch.device("meta"):  # and loads an encoder: its layers first come to be without values
        torch.nn.Linear(1, 1)
    conversion_mapping.get_checkpoint_conversion_mapping("bert")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(place)
    listener.listen(64)
    while True:
        client, _ = listener.accept()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:  # so that their time counts as this process's
                pass
        if os.fork() == 0:
            listener.close()
            status = step(client)
            client.sendall(str(status).encode())
            os._exit(status)
        client.close()


def step(client: socket.socket) -> int:
    """Do what a client asks for, in its place and with its streams; gives the exit status."""
    _, streams, *_ = socket.recv_fds(client, 1, 3)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    asked = json.loads(b"".join(iter(lambda: client.recv(1 << 16), b"")))
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    sys.argv[1:] = asked["argv"]
    try:
        runpy.run_module("sinet", run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else bool(end.code)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return int(status)


if __name__ == "__main__":
    serve(sys.argv[1])
