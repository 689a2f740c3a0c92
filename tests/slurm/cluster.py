"""A real SLURM of one host on loopback, in a folder of its own: munged, slurmctld and slurmd, started and stopped here.

    python tests/slurm/cluster.py FOLDER [COMMAND ...]     runs COMMAND (default: a shell) with the cluster around it

Needs Debian's slurm-wlm and munge, and root (slurmd starts jobs as their owners).
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
SECONDS = 60
"""For a daemon to answer."""
CONFIG = """\
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
# no cgroups: they are not to be had in a container
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
# a job that uses more memory than it asked for is killed by what is seen in /proc, every second
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill,NoShared
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/completed.txt
SchedulerParameters=sched_interval=1,batch_sched_delay=0,requeue_delay=1
# jobs that have ended stay known: what they asked for is looked at afterwards
MinJobAge=86400
KillWait=20
OverTimeLimit=0
ReturnToService=2
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:2
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE DefaultTime=10 State=UP
PartitionName=other Nodes={host} MaxTime=INFINITE DefaultTime=10 State=UP
"""

SNAKEMAKE = """\
#!{python}
# asks every second how the jobs are: the plugin's pauses, for jobs of hours, grow by ten seconds each
from snakemake.cli import main
from snakemake_executor_plugin_slurm import Executor
Executor.next_seconds_between_status_checks = property(lambda self: 1, lambda self, seconds: None)
main()
"""


def missing() -> list[str]:
    """The daemons that are not installed."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin"
    return [name for name in DAEMONS if not shutil.which(name, path=path)]


class Cluster:
    """The daemons of one cluster; `environment` is what its commands (sbatch, squeue, Snakemake) need."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = socket.gethostname()
        # the plugin takes SLURM_CONF from the environment of a job before it calls srun: `bin/srun` puts it back
        self.environment = os.environ | {
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": f"{folder / 'bin'}:{os.environ.get('PATH', '')}",
        }
        self.running: dict[str, subprocess.Popen] = {}

    def __enter__(self) -> "Cluster":
        for name in ("state", "spool", "bin"):
            (self.folder / name).mkdir(parents=True)
        srun = f'#!/bin/sh\nSLURM_CONF={self.folder}/slurm.conf exec {shutil.which("srun")} "$@"\n'
        for name, text in (("srun", srun), ("snakemake", SNAKEMAKE.format(python=sys.executable))):
            (self.folder / "bin" / name).write_text(text)
            (self.folder / "bin" / name).chmod(0o755)
        cpus = len(os.sched_getaffinity(0))
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20
        described = CONFIG.format(folder=self.folder, host=self.host, ports=_free_ports(2), cpus=cpus, memory=memory)
        (self.folder / "slurm.conf").write_text(described)
        # devices that are only counted: enough to see that jobs ask for GPUs
        (self.folder / "gres.conf").write_text("Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n")
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        try:
            # --force: the folder may lie below one that others can write to
            munge = [f"--{what}={self.folder}/munge.{what}" for what in ("socket", "pid-file", "log-file", "seed-file")]
            self.start("munged", "--foreground", "--force", f"--key-file={key}", *munge)
            self._until("munged answers", lambda: (self.folder / "munge.socket").exists())
            self.start("slurmctld", "-D")
            self.start("slurmd", "-D", "-N", self.host)
            self._until("the node is idle", lambda: "idle" in self.run("sinfo", "--noheader", "--format=%t"))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *details: object) -> None:
        if "slurmctld" in self.running:  # what still runs would outlive the daemons
            with contextlib.suppress(subprocess.SubprocessError):
                self.run("scancel", "--user=root")
                self._until("all jobs have ended", lambda: not self.run("squeue", "--noheader"))
        for name in reversed(list(self.running)):
            self.stop(name)

    def start(self, name: str, *arguments: str) -> None:
        """Start a daemon in the foreground of a process of ours; its messages go to `NAME.out`."""
        command = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        with open(self.folder / f"{name}.out", "ab") as out:
            self.running[name] = subprocess.Popen(
                [command, *arguments], stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=self.environment
            )

    def stop(self, name: str) -> None:
        process = self.running.pop(name)
        process.terminate()
        try:
            process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def restart_controller(self, seconds_down: float) -> None:
        """Stop slurmctld, leave it down for a while, and start it from its saved state."""
        self.stop("slurmctld")
        time.sleep(seconds_down)
        self.start("slurmctld", "-D")
        self._until("slurmctld answers", lambda: "UP" in self.run("scontrol", "ping"))

    def run(self, *command: str) -> str:
        """Output of a SLURM command, or "" where it failed."""
        done = subprocess.run(command, capture_output=True, text=True, env=self.environment, timeout=SECONDS)
        return done.stdout.strip() if done.returncode == 0 else ""

    def _until(self, what: str, true: Callable[[], object]) -> None:
        for _ in range(SECONDS * 10):
            if true():
                return
            for name, process in self.running.items():
                if process.poll() is not None:
                    said = (self.folder / f"{name}.out").read_text(errors="replace")
                    raise RuntimeError(f"{name} ended with status {process.returncode}:\n{said[-2000:]}")
            time.sleep(0.1)
        raise RuntimeError(f"waited {SECONDS} s in vain until {what}; see {self.folder}/*.log")


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    folder, *command = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leave the block, so that the daemons are stopped
    with Cluster(Path(folder).resolve()) as cluster:
        sys.exit(subprocess.call(command or ["bash"], env=cluster.environment))


if __name__ == "__main__":
    main()
