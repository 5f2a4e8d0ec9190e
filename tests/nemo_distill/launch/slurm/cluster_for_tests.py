"""A real Slurm on this machine, private to the tests: a controller, three nodes, its own munge; all on loopback.

    with Cluster(folder) as cluster:
        os.environ.update(cluster.environment)     # sbatch, squeue and the rest now speak to it
        cluster.kill_node("node1")

    python tests/nemo_distill/launch/slurm/cluster_for_tests.py bash     # a shell with a cluster, to try things in

Everything lies in one folder and is told its ports there, so nothing of the machine is changed but that the Debian
packages are installed (no root and no packages: `unavailable` says so). No systemd, no cgroups, no accounting unless
asked for; intervals that a site counts in minutes are seconds.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from evaluator.serve.ports import free_ports

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
ACCOUNTING_PROGRAMS = ("slurmdbd", "mariadbd", "mariadb-install-db")
ACCOUNTING_PACKAGES = ("slurmdbd", "mariadb-server")
SSH_PACKAGES = ("openssh-server", "openssh-client")
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "squeue", "munged", "munge")
NODES = ("node1", "node2", "node3")
"""The third one is in a partition of its own, with the others: `spare`."""
os.environ["PATH"] += ":/usr/sbin"

CONFIGURATION = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
# A requeued job waits for its old credential to expire: two minutes on a site.
AuthInfo=socket={folder}/munge.socket,cred_expire=2
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SlurmdParameters=config_overrides
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=2000
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1,batch_sched_delay=0,defer_batch,requeue_delay=1
JobRequeue=1
KillWait=3
SlurmdTimeout=4
MinJobAge={job_age}
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
{accounting}
{nodes}
PartitionName=batch Nodes=node1,node2 Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=idle Nodes=node1,node2 MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=CANCEL
PartitionName=urgent Nodes=node1,node2 MaxTime=INFINITE State=UP PriorityTier=2 PreemptMode=OFF
PartitionName=spare Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=1
"""

ACCOUNTING = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={port}
AccountingStoragePass={folder}/munge.socket"""
ACCOUNTING_CONFIGURATION = """
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={port}
CommunicationParameters=NoInAddrAny
SlurmUser={user}
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StoragePass=tests
StorageLoc=slurm_acct_db
"""


def unavailable(programs: tuple[str, ...] = PROGRAMS, packages: tuple[str, ...] = PACKAGES) -> str | None:
    """Install what is missing; why that cannot be, or None: all of `programs` are here."""
    if all(map(shutil.which, programs)):
        return None
    with FileLock(Path(tempfile.gettempdir(), "apt-for-tests.lock")):  # apt waits for no other
        return _install(programs, packages)


def _install(programs: tuple[str, ...], packages: tuple[str, ...]) -> str | None:
    if all(map(shutil.which, programs)):
        return None
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return f"it takes root and apt-get to install {' '.join(packages)}, which are missing"
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:  # no service may start by itself: it would listen to the network
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *packages]):
            done = subprocess.run(["apt-get", *command], capture_output=True, text=True, env=environment)
    finally:
        if ours:
            policy.unlink()
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or "no word").splitlines()[-1]
        return f"apt-get cannot install {' '.join(packages)}: {said}"
    missing = [program for program in programs if not shutil.which(program)]
    return f"{' '.join(packages)} came without {' '.join(missing)}" if missing else None


@contextlib.contextmanager
def ssh_server(folder: Path, variables: dict[str, str]):
    """An sshd on loopback that lets this user in by a key of its own; gives the ssh configuration that knows both.

    Sessions have `variables` in their environment.
    """
    folder.mkdir()
    for name in ("host", "id"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    (port,) = free_ports(1)
    setting = " ".join(f'"{name}={value}"' for name, value in variables.items())
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/id.pub\n"
        f"PasswordAuthentication no\nUsePAM no\nStrictModes no\nPidFile none\nSetEnv {setting}\n"
    )
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
    configuration = folder / "config"
    configuration.write_text(
        f"Host login\n HostName 127.0.0.1\n Port {port}\n IdentityFile {folder}/id\n"
        f" UserKnownHostsFile {folder}/known_hosts\n"
    )
    Path("/run/sshd").mkdir(exist_ok=True)
    server = subprocess.Popen(
        [shutil.which("sshd"), "-D", "-e", "-f", str(folder / "sshd_config")], stderr=subprocess.DEVNULL
    )
    try:
        with_config = ["ssh", "-o", "BatchMode=yes", "-F", str(configuration), "login", "true"]
        wait_for(lambda: subprocess.run(with_config, capture_output=True).returncode == 0)
        yield configuration
    finally:
        server.terminate()
        server.wait()


class Cluster:
    """The daemons, from `__enter__` to `__exit__`."""

    def __init__(
        self,
        folder: Path,
        *,
        cpus: int = 16,
        job_age: int = 300,
        accounting: bool = False,
        within: Sequence[str] = (),
    ):
        """`cpus` of a node, `job_age` seconds for which squeue knows a job that has ended.

        `within` are words put before those that start a daemon.
        """
        self.folder, self.cpus, self.job_age, self.accounting = folder, cpus, job_age, accounting
        self.within = within
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf")}
        self._daemons: dict[str, subprocess.Popen] = {}
        self._daemon_environment: dict[str, str] = {}

    def __enter__(self) -> "Cluster":
        try:
            self._start_all()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception) -> None:
        jobs = self.run("squeue", "--noheader", "--format=%A").split()
        if jobs:
            self.run("scancel", *jobs)
        with contextlib.suppress(AssertionError):
            wait_for(lambda: not self.run("squeue", "--noheader"))
        for name in (*NODES, "slurmctld", "slurmdbd", "mariadbd", "munged"):
            self._stop(name)

    def start_controller(self) -> None:
        """slurmctld, which finds its jobs where it left them."""
        self._start("slurmctld", "slurmctld", "-D")
        wait_for(lambda: "is UP" in self.run("scontrol", "ping"))

    def stop_controller(self) -> None:
        """End slurmctld; jobs go on."""
        self._stop("slurmctld")

    def start_node(self, node: str) -> None:
        """slurmd of a node, which takes jobs again if it was down."""
        self._start(node, "slurmd", "-D", "-N", node)
        self.run("scontrol", "update", f"NodeName={node}", "State=RESUME")

    def kill_node(self, node: str) -> None:
        """What a power cut does to a node: its slurmd and all that runs on it end at once, with no word to anyone.

        Slurm would notice within a minute; it is told, as a site's health check would tell it.
        """
        self._daemons.pop(node).kill()
        for pid in self._processes_on(node):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.run("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=lost")

    def run(self, *words: str) -> str:
        """What a command prints; empty when it fails."""
        done = subprocess.run(words, capture_output=True, text=True, env=os.environ | self.environment)
        return done.stdout.strip() if done.returncode == 0 else ""

    def states(self) -> set[str]:
        """States of the nodes."""
        return set(self.run("sinfo", "--noheader", "--Node", "--format=%T").split())

    def queue(self) -> dict[str, str]:
        """State of each job in the queue, by the step's name."""
        lines = self.run("squeue", "--noheader", "--format=%j|%T").splitlines()
        return {name.rpartition(".")[2]: state for name, _, state in (line.partition("|") for line in lines)}

    def job(self, step: str) -> dict[str, str]:
        """What `scontrol` shows of the job in the queue whose step has that name; empty when there is none."""
        for line in self.run("scontrol", "show", "job", "--oneliner").splitlines():
            shown = dict(word.partition("=")[::2] for word in line.split())
            if shown["JobName"].rpartition(".")[2] == step and shown["JobState"] in ("PENDING", "RUNNING"):
                return shown
        return {}

    def release(self, step: str) -> None:
        """Wait until the step's job was requeued, and spare it the two minutes that Slurm holds it then.

        They are for what is left of it on its node, whose end is waited for.
        """
        wait_for(lambda: self.job(step).get("Reason") == "BeginTime")
        number = self.job(step)["JobId"]
        wait_for(lambda: not any(words.startswith(f"slurmstepd: [{number}.") for words in _command_lines()))
        wait_for(lambda: not any("completing" in state for state in self.states()))
        # Not at once: until the old credential has expired, the node refuses the job ("credential revoked").
        self.run("scontrol", "update", f"JobId={number}", "StartTime=now+6")

    def _start_all(self) -> None:
        for name in ("state", *(f"spool/{node}" for node in NODES)):
            (self.folder / name).mkdir(parents=True)
        self._write_configuration()
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        files = [f"--{name}={self.folder}/munge.{name.split('-')[0]}" for name in ("socket", "pid-file", "seed-file")]
        self._start("munged", "munged", "--foreground", "--force", f"--key-file={key}", *files)
        wait_for(lambda: self._says("munge", "-n", "-S", f"{self.folder}/munge.socket"))
        if self.accounting:
            self._start_accounting()
        self.start_controller()
        for node in NODES:
            self.start_node(node)
        wait_for(lambda: self.states() == {"idle"})

    def _write_configuration(self) -> None:
        host, user = socket.gethostname().partition(".")[0], os.environ.get("USER") or "root"
        *ports, accounts = free_ports(2 + len(NODES))
        nodes = "\n".join(
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={self.cpus} RealMemory=64000"
            for node, port in zip(NODES, ports[1:], strict=True)
        )
        named = {"host": host, "user": user, "folder": self.folder}
        accounting = (
            ACCOUNTING.format(port=accounts, folder=self.folder)
            if self.accounting
            else "AccountingStorageType=accounting_storage/none"
        )
        text = CONFIGURATION.format(
            **named, controller_port=ports[0], nodes=nodes, job_age=self.job_age, accounting=accounting
        )
        (self.folder / "slurm.conf").write_text(text)
        database = self.folder / "slurmdbd.conf"  # looked for beside slurm.conf
        database.touch(mode=0o600)
        database.write_text(ACCOUNTING_CONFIGURATION.format(**named, port=accounts))

    def _start_accounting(self) -> None:
        """A database that listens to nothing but a socket, and slurmdbd on it."""
        socket_file, data = f"{self.folder}/mysql.socket", f"{self.folder}/mysql"
        as_user = f"--user={os.environ.get('USER') or 'root'}"
        words = ("mariadb-install-db", "--no-defaults", as_user, f"--datadir={data}", "--skip-test-db")
        subprocess.run(words, check=True, capture_output=True)
        self._start(
            "mariadbd",
            "mariadbd",
            "--no-defaults",
            as_user,
            f"--datadir={data}",
            "--skip-networking",
            f"--socket={socket_file}",
            "--innodb-buffer-pool-size=64M",
            "--innodb-lock-wait-timeout=900",
        )
        wait_for(lambda: self._says("mariadb-admin", f"--socket={socket_file}", "ping"))
        grants = "create user slurm@localhost identified by 'tests'; grant all on *.* to slurm@localhost"
        subprocess.run(["mariadb", f"--socket={socket_file}", "-e", grants], check=True)
        self._daemon_environment["MYSQL_UNIX_PORT"] = socket_file
        self._start("slurmdbd", "slurmdbd", "-D")
        log = self.folder / "slurmdbd.out"
        wait_for(lambda: "started" in log.read_text())

    def _processes_on(self, node: str) -> list[int]:
        """Processes of jobs on `node`; first the daemons, their parents, which would report their end."""
        marks = {f"SLURMD_NODENAME={node}".encode(), f"SLURM_CONF={self.environment['SLURM_CONF']}".encode()}
        daemons, found = set(), []
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if marks <= set((path / "environ").read_bytes().split(b"\0")):
                    found.append(int(path.name))
                    parent = (path / "stat").read_text().rpartition(")")[2].split()[1]
                    if Path("/proc", parent, "cmdline").read_bytes().startswith(b"slurmstepd"):
                        daemons.add(int(parent))
        return [*daemons, *found]

    def _start(self, name: str, *words: str) -> None:
        with open(self.folder / f"{name}.out", "ab") as output:
            self._daemons[name] = subprocess.Popen(
                [*self.within, *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=os.environ | self.environment | self._daemon_environment,
                start_new_session=True,
            )

    def _stop(self, name: str) -> None:
        daemon = self._daemons.pop(name, None)
        if daemon is None:
            return
        daemon.terminate()
        try:
            daemon.wait(10)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()

    def _says(self, *words: str) -> bool:
        return subprocess.run(words, capture_output=True).returncode == 0


def _command_lines() -> list[str]:
    """Of every process."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return found


def wait_for(condition, seconds: float = 300.0):
    """Poll until `condition()` is true and return what it gave."""
    until = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.05)
    return value


if __name__ == "__main__":
    import sys
    import tempfile

    if reason := unavailable():
        sys.exit(reason)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # and the daemons end with us
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder, Cluster(Path(folder), cpus=1) as cluster:
        sys.exit(subprocess.run(sys.argv[1:], env=os.environ | cluster.environment).returncode)
